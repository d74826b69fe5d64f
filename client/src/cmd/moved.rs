//! `tocyn moved`.

use tocyn_client::transport::ServiceUrl;
use tocyn_client::wallet::Moved;

use crate::cli::{CliResult, Globals};

/// Tokens are spent only at the address where they were bought for, so that no other relay can
/// ask for them by taking the name.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The address until now, as `tocyn balance` shows it.
    #[arg(long, value_name = "URL")]
    from: ServiceUrl,
    /// The new address; make sure that it is the same relay.
    #[arg(long, value_name = "URL")]
    to: ServiceUrl,
}

pub(crate) async fn run(globals: &Globals, args: Args) -> CliResult {
    let wallet = globals.wallet().await?;
    let moved = wallet.move_relay(&args.from.to_string(), &args.to.to_string()).await?;
    wallet.close().await;
    if moved == (Moved { tokens: 0, groups: 0 }) {
        return Err(format!(
            "the wallet has no token and no group at {}; see `tocyn balance`",
            args.from
        )
        .into());
    }
    println!("{} tokens are now spent at {}", moved.tokens, args.to);
    if moved.groups > 0 {
        println!("{} groups now meet there", moved.groups);
    }
    Ok(())
}
