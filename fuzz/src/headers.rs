//! Header values, the voucher codes that stand in them, and the line before all headers.

#[path = "../../token-service/src/voucher.rs"]
#[allow(dead_code)] // the issuer makes codes too
mod voucher; // the file alone, to build none of the issuer's database and server

#[path = "../../service/src/proxy.rs"]
mod proxy; // for the same reason

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tocyn_protocol::challenge::{TokenChallenge, parse_www_authenticate, www_authenticate};
use tocyn_protocol::codec::auth_schemes;
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::redemption::Authorization;

use crate::{Target, text};

/// The program.
pub const TARGET: Target = Target {
    name: "headers",
    decoders: &[
        ("schemes", schemes),
        ("Authorization", authorization),
        ("WWW-Authenticate", challenges),
        ("voucher code", voucher_code),
        ("PROXY line", proxy_line),
    ],
};

/// No more schemes than bytes; each is found again by its name alone, and parameters in any case.
fn schemes(bytes: &[u8]) {
    let Some(value) = text(bytes) else { return };
    let Ok(schemes) = auth_schemes(value) else { return };
    assert!(value.len() <= 8192 && schemes.len() <= value.len());
    let names: Vec<&str> = schemes.iter().map(|scheme| scheme.name).collect();
    let again = names.join(", ");
    let again = auth_schemes(&again).expect("names alone are a value");
    assert!(again.iter().map(|scheme| scheme.name).eq(names));
    for scheme in &schemes {
        for name in ["token", "input", "binding", "challenge", "token-key", "max-age"] {
            assert_eq!(scheme.param(name), scheme.param(&name.to_ascii_uppercase()));
            if let Ok(Some(decoded)) = scheme.base64url(name) {
                assert!(decoded.len() < value.len());
            }
        }
    }
}

fn header(authorization: &Authorization) -> String {
    match authorization {
        Authorization::Bound(bound) => bound.header_value(),
        Authorization::Bearer(token) => token.header_value(),
    }
}

/// However it is written, it is one thing: written our way, it reads and writes the same.
fn authorization(bytes: &[u8]) {
    let Some(value) = text(bytes) else { return };
    if let Ok(authorization) = Authorization::parse(value) {
        let ours = header(&authorization);
        let again = Authorization::parse(&ours).expect("what we write we read");
        assert_eq!(header(&again), ours);
        assert_eq!(
            matches!(authorization, Authorization::Bound(_)),
            matches!(again, Authorization::Bound(_))
        );
        // No token has parts that were not in the header.
        assert!(value.len() + 16 >= ours.len());
    }
}

/// What reads can be written, and reads as the same again.
fn challenges(bytes: &[u8]) {
    let Some(value) = text(bytes) else { return };
    let Ok(found) = parse_www_authenticate(value) else { return };
    assert!(found.len() * "PrivateToken".len() <= value.len());
    for header in found {
        let challenge = header.challenge;
        assert_eq!(TokenChallenge::from_bytes(&challenge.to_bytes()).unwrap(), challenge);
        let Some(key) = header.token_key.and_then(|key| PublicKey::from_bytes(&key).ok()) else {
            continue;
        };
        let ours = www_authenticate(&challenge, &key);
        if ours.len() <= 8192 {
            let again = parse_www_authenticate(&ours).unwrap();
            assert_eq!(again.len(), 1);
            assert_eq!(again[0].challenge, challenge);
            assert_eq!(again[0].token_key.as_deref(), Some(&key.to_bytes()[..]));
        }
    }
}

/// Every way to write a code is one of its one text.
fn voucher_code(bytes: &[u8]) {
    let Some(typed) = text(bytes) else { return };
    let Ok(code) = voucher::VoucherCode::parse(typed) else { return };
    let written = code.text();
    let again = voucher::VoucherCode::parse(&written).expect("what is printed can be typed");
    assert_eq!(again.hash(), code.hash());
    assert_eq!(again.text(), written);
    let plain = |text: &str| {
        let letters = text.trim()[voucher::PREFIX.len()..].replace('-', "").to_ascii_uppercase();
        letters.replace('O', "0").replace(['I', 'L'], "1")
    };
    assert_eq!(plain(typed), plain(&written));
}

/// Is read to its end and no further, and names a client, or nobody.
fn proxy_line(bytes: &[u8]) {
    let mut rest = bytes;
    let mut context = Context::from_waker(Waker::noop());
    let read = pin!(proxy::read_source(&mut rest)).poll(&mut context);
    let Poll::Ready(source) = read else { panic!("it waits for what is there") };
    let (line, _) = bytes.split_at(bytes.len() - rest.len());
    assert!(line.len() <= 107);
    let Ok(source) = source else { return };
    assert!(line.starts_with(b"PROXY ") && line.ends_with(b"\r\n"));
    assert!(!line[..line.len() - 2].windows(2).any(|pair| pair == b"\r\n"));
    if let Some(std::net::IpAddr::V6(client)) = source {
        let circuit = client.segments().starts_with(&[0xfc00, 0xdead, 0xbeef, 0x4dad]);
        assert!(circuit || client.to_bits() as u64 == 0, "a network of 64 bits is one client");
        assert_eq!(client.to_ipv4_mapped(), None);
    }
}
