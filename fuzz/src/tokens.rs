//! Challenges and tokens.

use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::redemption::{Authorization, BoundToken};
use tocyn_protocol::relay::MessageId;
use tocyn_protocol::suite::{AUTHENTICATOR_INPUT_BYTES, TOKEN_BYTES};
use tocyn_protocol::token::{AuthenticatorInput, Token};

use crate::fixed::{PAIRING, REDEEMER};
use crate::{Target, text};

/// The program.
pub const TARGET: Target = Target {
    name: "tokens",
    decoders: &[
        ("token challenge", challenge),
        ("authenticator input", input),
        ("token", token),
        ("message id", message_id),
    ],
};

/// Encodes to the same bytes.
fn challenge(bytes: &[u8]) {
    if let Ok(challenge) = TokenChallenge::from_bytes(bytes) {
        assert_eq!(challenge.to_bytes(), bytes);
        assert_eq!(challenge.token_type().to_be_bytes(), bytes[..2]);
        let same = TokenChallenge::from_bytes(bytes).unwrap();
        assert_eq!(same.digest(), challenge.digest());
    }
}

/// Has one size, and encodes to the same bytes.
fn input(bytes: &[u8]) {
    if let Ok(input) = AuthenticatorInput::from_bytes(bytes) {
        assert_eq!(bytes.len(), AUTHENTICATOR_INPUT_BYTES);
        assert_eq!(input.to_bytes(), bytes);
    }
}

/// Has one size, encodes to the same bytes, and is the same after its way through both headers. If
/// it pays, then bound to one message it pays for no other.
fn token(bytes: &[u8]) {
    let Ok(token) = Token::from_bytes(bytes) else { return };
    assert_eq!(bytes.len(), TOKEN_BYTES);
    assert_eq!(token.to_bytes().as_slice(), bytes);
    assert_eq!(token.input().to_bytes(), bytes[..AUTHENTICATOR_INPUT_BYTES]);
    let bearer = Authorization::parse(&token.header_value()).unwrap();
    let Authorization::Bearer(same) = &bearer else { panic!("it became another form") };
    assert_eq!(same.to_bytes().as_slice(), bytes);

    let (paid, other) = (MessageId::of(b"paid"), MessageId::of(b"other"));
    let header = BoundToken::new(&token, PAIRING.origin_name(), &paid).header_value();
    let bound = Authorization::parse(&header).unwrap();
    let pays = REDEEMER.redeem(&bearer, &paid).is_ok();
    assert_eq!(REDEEMER.redeem(&bound, &paid).is_ok(), pays);
    assert!(REDEEMER.redeem(&bound, &other).is_err());
    if pays {
        assert_eq!(token.input().challenge_digest(), &PAIRING.challenge().digest());
    }
}

/// Is 64 digits, shown in lower case.
fn message_id(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    if let Ok(id) = text.parse::<MessageId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
        assert_eq!(MessageId::from_bytes(*id.as_bytes()), id);
    }
}
