//! The posts of a benchmark, as bytes. What costs a token is made beforehand.

use std::fmt::Write;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use getrandom::SysRng;
use indicatif::ProgressBar;
use rand_core::{Rng, UnwrapErr};
use tocyn_protocol::media_type;
use tocyn_protocol::redemption::{BEARER_SCHEME, BOUND_SCHEME, BoundToken};
use tocyn_protocol::relay::MessageId;
use tocyn_protocol::suite::{NONCE_BYTES, TOKEN_TYPE};
use tocyn_protocol::token::Token;

use super::super::load::{Answer, Request, Source, Verdict};
use super::super::mix::{Kind, Mix, NAMES};
use super::super::tokens::Shop;
use crate::cli::CliResult;

/// Bytes at the start of each cell that are its own; the rest is the same in all, so that a post
/// takes little memory. No cell is smaller.
const OWN_BYTES: usize = 32;
/// How many different posts with invalid tokens take turns; the relay remembers none of them.
const INVALID: usize = 256;

/// One post with a token, up to the part of the cell that all share.
struct Paid {
    post: Arc<[u8]>,
    /// The same token with another cell, where the mix asks for it.
    double: Option<Arc<[u8]>>,
}

/// Posts in the shares of a mix.
pub(crate) struct Posts {
    mix: Mix,
    sent: u64,
    most: u64,
    paid: Vec<Paid>,
    /// What each connection has posted last.
    last: Vec<Option<Paid>>,
    invalid: Vec<Arc<[u8]>>,
    rejects: [Arc<[u8]>; 3],
    healthz: Arc<[u8]>,
    /// The part of a cell that all share.
    rest: Arc<[u8]>,
    nothing: Arc<[u8]>,
}

impl Posts {
    /// Buys the tokens of the first `most` requests of a mix, but no more than `tokens`, and
    /// makes their posts.
    pub(crate) async fn prepare(
        shop: &Shop,
        address: &str,
        mix: Mix,
        (most, tokens): (u64, u64),
        connections: usize,
        bar: &ProgressBar,
    ) -> CliResult<Self> {
        if shop.info.cell_bytes < OWN_BYTES as u64 {
            return Err(format!("the relay's cells have fewer than {OWN_BYTES} bytes").into());
        }
        let maker = Arc::new(Maker::new(address, shop));
        let repeats = mix.has(Kind::Retry) || mix.has(Kind::Double);
        // Each connection begins with a post that it can repeat.
        let spare = if repeats { connections as u64 } else { 0 };
        let valid = match mix.has(Kind::Valid) {
            true => (0..most).filter(|n| mix.kind(*n) == Kind::Valid).count() as u64,
            false => 0,
        };
        let count = valid.min(tokens) + spare;
        bar.set_length(count);
        let (make, double) = (maker.clone(), mix.has(Kind::Double));
        let paid = shop.buy(count as usize, bar, move |token| make.paid(&token, double)).await?;
        Ok(Self {
            mix,
            sent: 0,
            most,
            paid,
            last: (0..connections).map(|_| None).collect(),
            invalid: match mix.has(Kind::Invalid) {
                true => (0..INVALID).map(|_| maker.invalid()).collect(),
                false => Vec::new(),
            },
            rejects: maker.rejects(),
            healthz: format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n")
                .into_bytes()
                .into(),
            rest: maker.rest.clone(),
            nothing: Arc::new([]),
        })
    }

    fn repeat(&mut self, kind: Kind, connection: usize) -> Option<(Kind, Arc<[u8]>)> {
        let last = self.last[connection].as_ref();
        let again = match kind {
            Kind::Retry => last.map(|paid| paid.post.clone()),
            _ => last.and_then(|paid| paid.double.clone()),
        };
        match again {
            Some(head) => Some((kind, head)),
            None => self.fresh(connection),
        }
    }

    fn fresh(&mut self, connection: usize) -> Option<(Kind, Arc<[u8]>)> {
        let paid = self.paid.pop()?;
        let head = paid.post.clone();
        self.last[connection] = Some(paid);
        Some((Kind::Valid, head))
    }
}

impl Source for Posts {
    const KINDS: &'static [&'static str] = &NAMES;

    fn next(&mut self, connection: usize) -> Option<Request> {
        if self.sent == self.most {
            return None;
        }
        let number = self.sent as usize;
        let (kind, head) = match self.mix.kind(self.sent) {
            Kind::Valid => self.fresh(connection)?,
            kind @ (Kind::Retry | Kind::Double) => self.repeat(kind, connection)?,
            Kind::Invalid => (Kind::Invalid, self.invalid[number % INVALID].clone()),
            Kind::Reject => (Kind::Reject, self.rejects[number % self.rejects.len()].clone()),
            Kind::Healthz => (Kind::Healthz, self.healthz.clone()),
        };
        self.sent += 1;
        let tail = if kind == Kind::Healthz { &self.nothing } else { &self.rest };
        Some(Request { kind: kind as usize, head, tail: tail.clone() })
    }

    fn check(&mut self, connection: usize, request: &Request, answer: &Answer<'_>) -> Verdict {
        let kind = Kind::ALL[request.kind];
        match answer.status {
            503 => {
                if kind == Kind::Valid {
                    self.last[connection] = None; // it is not stored, so there is nothing to repeat
                }
                Verdict::Busy
            }
            status if status == kind.status() => Verdict::Good,
            _ => Verdict::Wrong,
        }
    }
}

/// Makes the bytes of posts.
struct Maker {
    address: String,
    origin_name: String,
    challenge_digest: [u8; 32],
    token_key_id: [u8; 32],
    cell_bytes: usize,
    rest: Arc<[u8]>,
}

impl Maker {
    fn new(address: &str, shop: &Shop) -> Self {
        let cell_bytes = shop.info.cell_bytes as usize;
        Self {
            address: address.to_owned(),
            origin_name: shop.info.origin_name.clone(),
            challenge_digest: shop.challenge.digest(),
            token_key_id: shop.key.token_key_id().0,
            cell_bytes,
            rest: vec![0; cell_bytes.saturating_sub(OWN_BYTES)].into(),
        }
    }

    fn paid(&self, token: &Token, double: bool) -> Paid {
        let post = || {
            let own: [u8; OWN_BYTES] = random();
            let cell = [&own[..], &self.rest].concat();
            let bound = BoundToken::new(token, &self.origin_name, &MessageId::of(&cell));
            self.post(&bound.header_value(), &own)
        };
        Paid { post: post(), double: double.then(post) }
    }

    /// A post, up to the part of the cell that all share.
    fn post(&self, authorization: &str, own: &[u8; OWN_BYTES]) -> Arc<[u8]> {
        let mut head = format!("POST /v1/messages HTTP/1.1\r\nhost: {}\r\n", self.address);
        let _ = write!(
            head,
            "content-type: {}\r\ncontent-length: {}\r\nauthorization: {authorization}\r\n\r\n",
            media_type::OCTET_STREAM,
            self.cell_bytes
        );
        [head.as_bytes(), own].concat().into()
    }

    /// Everything is right but the binding, which only a verification shows.
    fn invalid(&self) -> Arc<[u8]> {
        self.bound(&input(self.challenge_digest, self.token_key_id))
    }

    fn rejects(&self) -> [Arc<[u8]>; 3] {
        let short = URL_SAFE_NO_PAD.encode([0, 5, 1, 2, 3]);
        [
            self.post(&format!("{BEARER_SCHEME} token=\"{short}\""), &random()),
            self.bound(&input(self.challenge_digest, random())),
            self.bound(&input(random(), self.token_key_id)),
        ]
    }

    fn bound(&self, input: &[u8]) -> Arc<[u8]> {
        let (input, binding) =
            (URL_SAFE_NO_PAD.encode(input), URL_SAFE_NO_PAD.encode(random::<32>()));
        let value = format!("{BOUND_SCHEME} input=\"{input}\", binding=\"{binding}\"");
        self.post(&value, &random())
    }
}

/// An `AuthenticatorInput` with a random nonce.
fn input(challenge_digest: [u8; 32], token_key_id: [u8; 32]) -> Vec<u8> {
    let nonce: [u8; NONCE_BYTES] = random();
    [&TOKEN_TYPE.to_be_bytes()[..], &nonce, &challenge_digest, &token_key_id].concat()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    UnwrapErr(SysRng).fill_bytes(&mut bytes);
    bytes
}
