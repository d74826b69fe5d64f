//! `tocyn read`.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tocyn_client::printable::Printable;
use tocyn_client::read::{Range, Reader};
use tocyn_client::transport::ServiceUrl;
use tocyn_protocol::relay::{MessageId, unpack};

use crate::cli::{CliResult, Globals};
use crate::output::stdout;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The relay.
    #[arg(long, value_name = "URL")]
    relay: ServiceUrl,
    /// Only messages after this number; 0 is before the first. Without it: all that are kept.
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    /// At most so many messages.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Wait for new messages.
    #[arg(long)]
    follow: bool,
    /// Write whole cells as they are, one after the other.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let relay = globals.relay(&args.relay)?;
    let info = relay.info().await?;
    let Args { after, limit, follow, raw, .. } = args;
    let mut reader = Reader::new(&relay, &info, Range { after, limit, follow });
    let mut out = stdout();
    while let Some((seq, cell)) = reader.next().await? {
        match (raw, globals.json()) {
            (true, _) => out.write_all(&cell)?,
            (_, true) => writeln!(out, "{}", as_json(seq, &cell))?,
            _ => writeln!(out, "{}", as_text(seq, &cell))?,
        }
        if follow {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(())
}

fn as_json(seq: u64, cell: &[u8]) -> serde_json::Value {
    let mut value = json!({ "seq": seq, "message_id": MessageId::of(cell) });
    let (name, content) = match unpack(cell) {
        Ok(text) => match std::str::from_utf8(text) {
            Ok(text) => ("text", text.to_owned()),
            Err(_) => ("data", STANDARD.encode(text)),
        },
        Err(_) => ("cell", STANDARD.encode(cell)),
    };
    value[name] = content.into();
    value
}

/// Number, tab, text. Lines after the first begin with a tab, so that no text can pass for the
/// next message.
fn as_text(seq: u64, cell: &[u8]) -> String {
    match unpack(cell) {
        Ok(text) => {
            let text = String::from_utf8_lossy(text);
            let lines: Vec<String> =
                text.trim_end_matches('\n').split('\n').map(|l| Printable(l).to_string()).collect();
            format!("{seq}\t{}", lines.join("\n\t"))
        }
        Err(_) => {
            format!("{seq}\t({} bytes that are no plain text; see --json or --raw)", cell.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tocyn_protocol::relay::pack;

    #[test]
    fn a_line_is_number_and_text() {
        assert_eq!(
            as_text(3, &pack("naïve \u{1b}[1m\n".as_bytes(), 64).unwrap()),
            "3\tnaïve \\u{1b}[1m"
        );
        let forged = pack(b"hi\n999\tforged", 64).unwrap();
        assert_eq!(as_text(5, &forged), "5\thi\n\t999\tforged");
        assert_eq!(
            as_text(4, &[0xff; 9]),
            "4\t(9 bytes that are no plain text; see --json or --raw)"
        );
    }

    #[test]
    fn json_tells_text_bytes_and_whole_cells_apart() {
        assert_eq!(as_json(1, &pack(b"hi", 64).unwrap())["text"], "hi");
        assert_eq!(as_json(1, &pack(&[0xff], 64).unwrap())["data"], "/w==");
        assert_eq!(as_json(1, &[0xff; 3])["cell"], "////");
    }
}
