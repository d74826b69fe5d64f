//! `docs/PROTOCOL.md` says what the code does: its tables are read and held against real bytes.

use getrandom::SysRng;
use rand_core::UnwrapErr;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::issuance::{
    AmortizedBatchTokenRequest, Issuer, PendingBatch, TokenRequest, TokenResponse,
};
use tocyn_protocol::keys::KeyPair;
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::relay::{CellDecoder, DEFAULT_CELL_BYTES, pack};
use tocyn_protocol::suite::TOKEN_TYPE;

const DOCUMENT: &str = include_str!("../../docs/PROTOCOL.md");

/// The rows of the first table after the heading that starts with `name`.
fn table(name: &str) -> Vec<Vec<&'static str>> {
    let start = DOCUMENT.find(&format!("\n{name}")).unwrap_or_else(|| panic!("no {name}"));
    let rows: Vec<Vec<&str>> = DOCUMENT[start + 1..]
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(!rows.is_empty(), "{name} has no table");
    rows
}

/// Every documented field has its place and size, they leave no gap, and hold what they should.
fn check(name: &str, bytes: &[u8], fields: &[(&str, &[u8])]) {
    let rows = table(&format!("### {name}"));
    let names: Vec<&str> = rows.iter().map(|row| row[2]).collect();
    assert_eq!(names, fields.iter().map(|field| field.0).collect::<Vec<_>>(), "{name}");
    let mut end = 0;
    for (row, (field, value)) in rows.iter().zip(fields) {
        let (offset, size): (usize, usize) = (row[0].parse().unwrap(), row[1].parse().unwrap());
        assert_eq!(offset, end, "{name}: {field}");
        end += size;
        assert_eq!(&bytes[offset..end], *value, "{name}: {field}");
    }
    assert_eq!(end, bytes.len(), "{name}: the table ends too early");
}

#[test]
fn wire_tables() {
    let rng = &mut UnwrapErr(SysRng);
    let token_type = TOKEN_TYPE.to_be_bytes();
    let challenge = TokenChallenge::new("issuer.example", None, "relay.example").unwrap();
    check(
        "TokenChallenge",
        &challenge.to_bytes(),
        &[
            ("token_type", &token_type),
            ("issuer_name length", &[0, 14]),
            ("issuer_name", b"issuer.example"),
            ("redemption_context length", &[0]),
            ("origin_info length", &[0, 13]),
            ("origin_info", b"relay.example"),
        ],
    );

    let key = KeyPair::derive(&[1; 32], b"PrivacyPass");
    let (public, issuer) = (*key.public(), Issuer::new(key));
    let key_id = public.token_key_id();
    let truncated = [key_id.0[31]];
    let (request, pending) = TokenRequest::new(&public, &challenge, rng);
    let bytes = request.to_bytes();
    check(
        "TokenRequest",
        &bytes,
        &[
            ("token_type", &token_type),
            ("truncated_token_key_id", &truncated),
            ("blinded_msg", &bytes[bytes.len() - 32..]),
        ],
    );
    let response = issuer.evaluate(&request, rng);
    let bytes = response.to_bytes();
    check(
        "TokenResponse",
        &bytes,
        &[("evaluate_msg", &bytes[..32]), ("evaluate_proof", &bytes[32..])],
    );
    // One bit of the last field changed: the proof is where the table says.
    let mut changed = bytes.clone();
    changed[32] ^= 1;
    assert!(TokenResponse::from_bytes(&changed).is_ok_and(|r| r != response));

    let token = pending.finalize(&response).unwrap();
    let bytes = token.to_bytes();
    check(
        "Token (",
        &bytes,
        &[
            ("token_type", &token_type),
            ("nonce", token.nonce()),
            ("challenge_digest", &challenge.digest()),
            ("token_key_id", &key_id.0),
            ("authenticator", &bytes[98..]),
        ],
    );

    let (request, pending) = AmortizedBatchTokenRequest::new(&public, &challenge, 16, rng).unwrap();
    let bytes = request.to_bytes();
    let (again, _) = PendingBatch::from_bytes(&public, &challenge, &pending.to_bytes()).unwrap();
    assert_eq!(again.to_bytes(), bytes);
    check(
        "AmortizedBatchTokenRequest",
        &bytes,
        &[
            ("token_type", &token_type),
            ("truncated_token_key_id", &truncated),
            ("blinded_elements length", &[0x42, 0]),
            ("blinded_elements", &bytes[bytes.len() - 512..]),
        ],
    );
    let bytes = issuer.evaluate_batch(&request, rng).to_bytes();
    check(
        "AmortizedBatchTokenResponse",
        &bytes,
        &[
            ("evaluated_elements length", &[0x42, 0]),
            ("evaluated_elements", &bytes[2..514]),
            ("evaluate_proof", &bytes[514..]),
        ],
    );
}

#[test]
fn cells_and_frames() {
    let cell = pack(b"hello", DEFAULT_CELL_BYTES).unwrap();
    check(
        "Plaintext cell",
        &cell,
        &[("length", &[0, 5]), ("text", b"hello"), ("zeros", &[0; DEFAULT_CELL_BYTES - 7])],
    );
    let frame = [&7u64.to_be_bytes()[..], &cell].concat();
    check("Frame", &frame, &[("sequence", &7u64.to_be_bytes()), ("cell", &cell)]);
    assert_eq!(CellDecoder::new(DEFAULT_CELL_BYTES).push(&frame), [(7, cell)]);
}

#[test]
fn every_problem_is_listed_with_its_status() {
    let documented: Vec<(String, u16)> = table("## Problems")
        .iter()
        .map(|row| (format!("urn:tocyn:problem:{}", row[0]), row[1].parse().unwrap()))
        .collect();
    let in_code: Vec<_> = ProblemType::all().map(|t| (t.urn(), t.status())).collect();
    assert_eq!(documented, in_code);
}

#[test]
fn domain_separation_strings_are_those_of_the_code() {
    let suite = include_str!("../src/suite.rs");
    let mut in_code: Vec<&str> = suite
        .split("b\"")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .filter(|text| !text.contains("OPRFV1-"))
        .collect();
    let mut documented: Vec<&str> =
        table("| string | use |").iter().map(|row| row[0].trim_matches('`')).collect();
    in_code.sort_unstable();
    documented.sort_unstable();
    assert_eq!(documented, in_code);
}
