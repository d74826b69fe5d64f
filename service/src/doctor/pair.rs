//! What the doctor asks of a pair: the pairing's epoch, whether the service answers, and whether
//! the other one has the same pairing and the same time.

use std::path::Path;
use std::time::Duration;

use axum::http::StatusCode;
use tocyn_protocol::directory::TokenKey;
use tocyn_protocol::pairing::Pairing;
use tocyn_protocol::problem::Problem;

use super::Report;
use crate::listen::{Address, Addresses, OPEN_TO_OTHERS};
use crate::probe::{self, Answer, ProbeError};

/// How far the clocks of a pair may be apart.
const CLOCK_TOLERANCE_SECONDS: u64 = 60;
const KEYS_ENDED: &str = "its last key has ended, and no token is issued or taken";
/// No service publishes more keys than this.
const MAX_KEYS: usize = 8;

/// Where a service publishes its token keys, and how to read them.
pub struct KeysAt {
    /// `issuer` or `relay`.
    pub service: &'static str,
    /// The path.
    pub path: &'static str,
    /// The keys in the document there; None where it is another document.
    pub read: fn(&[u8]) -> Option<Vec<TokenKey>>,
}

impl KeysAt {
    /// What this document says about a pairing.
    fn hold_against(&self, pairing: &Pairing, answer: &Answer) -> Published {
        let keys = (self.read)(&answer.body).filter(|_| answer.status == StatusCode::OK);
        match keys.filter(|keys| keys.len() <= MAX_KEYS) {
            None => Published::Nothing,
            Some(keys) if keys.is_empty() => Published::NoKeys,
            Some(keys) => {
                let is_ours = |key: &TokenKey| *key == TokenKey::for_epoch(pairing, key.epoch);
                if keys.iter().all(is_ours) { Published::Ours } else { Published::Others }
            }
        }
    }
}

/// How a database stands to a pairing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No pairing has been used with it.
    Unused,
    /// It is the one in use.
    InUse,
    /// A planned renewal of the one in use.
    Planned,
    /// Another one is in use, and this one was not used before.
    Renewed,
    /// It was replaced by another one.
    Replaced,
    /// The database is tied to a pairing that this one does not replace, or to other names.
    Foreign,
}

impl Standing {
    /// By the id of the pairing in use, and by whether the one in question was replaced.
    pub fn of(in_use: &[u8], pairing: &Pairing, was_replaced: bool) -> Self {
        match () {
            () if was_replaced => Self::Replaced,
            () if in_use == pairing.id().0 => Self::InUse,
            () if pairing.replaces().iter().any(|old| old.0 == in_use) => Self::Renewed,
            () => Self::Foreign,
        }
    }
}

enum Published {
    Ours,
    /// A service whose last key has ended.
    NoKeys,
    Others,
    Nothing,
}

/// What a service listens on.
pub struct ListensOn<'a> {
    /// For clients.
    pub public: &'a Addresses,
    /// For the operator.
    pub admin: &'a Addresses,
    /// Whether a PROXY line comes first, for clients.
    pub proxy_protocol: bool,
    /// Where relative paths begin.
    pub folder: &'a Path,
}

impl Report {
    /// Whether the clock is within the pairing's time, and how long its epoch still lasts.
    pub fn check_epoch(&mut self, pairing: &Pairing, now: u64) {
        let (check, schedule) = ("pairing", pairing.schedule());
        let epoch = match schedule.epoch_at(now) {
            Ok(epoch) => epoch,
            Err(error) => {
                return self.bad(
                    check,
                    format!(
                        "{error}. If the clock is right, the issuer's was wrong when it made the \
                         pairing: set it right and run `tocyn-issuer pairing renew`"
                    ),
                );
            }
        };
        let for_people = |seconds: u64| {
            humantime::format_duration(Duration::from_secs(seconds.next_multiple_of(60)))
        };
        let left = schedule.left(now);
        if left == 0 {
            return self.bad(
                check,
                format!(
                    "{KEYS_ENDED}. Run `tocyn-issuer pairing renew`, and bring the new pairing.toml \
                     to the relay"
                ),
            );
        }
        self.good(
            check,
            format!(
                "issuer {}, relay {}, epoch {epoch}, which lasts for another {}",
                pairing.issuer_name(),
                pairing.origin_name(),
                for_people(schedule.end(epoch) - now),
            ),
        );
        if now >= schedule.renew_from() {
            let how = match schedule.can_grow() {
                true => "run `tocyn-issuer pairing renew --planned` now",
                // A planned renewal has no more epochs either.
                false => "run `tocyn-issuer pairing renew` before, which voids all tokens",
            };
            let left = for_people(left);
            let text = format!(
                "its last key ends in {left}: {how}, and bring the new pairing.toml to the relay"
            );
            self.warn(check, text);
        }
        if let Some(below) = pairing.renewed_at().filter(|below| *below > epoch) {
            let starts = for_people(schedule.start(below) - now);
            let text = format!(
                "a planned renewal: its new keys begin in {starts}. Both sides need this \
                 pairing.toml by then"
            );
            self.good(check, text);
        }
    }

    /// Whether the database goes with the pairing.
    pub fn check_standing(&mut self, standing: Standing) {
        let check = "pairing";
        match standing {
            Standing::InUse => self.good(check, "it is the one that the database knows"),
            Standing::Unused => self.good(check, "the database has none yet; `serve` brings it in"),
            Standing::Planned => self.warn(
                check,
                "it is a planned renewal of the one that the database knows, and not used yet. The \
                 next `serve` brings it in; tokens stay good",
            ),
            Standing::Renewed => self.warn(
                check,
                "it is another one than the database knows: it was renewed, and not used yet. The \
                 next `serve` brings it in; tokens of the old one are void then",
            ),
            Standing::Foreign => self.bad(
                check,
                "the database is tied to another one, which this one does not replace: set \
                 database.url right if it is another service's. If it is this service's, bring the \
                 newest pairing.toml here: `tocyn-issuer pairing renew` makes it, `tocyn-relay pairing \
                 install FILE` takes it",
            ),
            Standing::Replaced => self.bad(
                check,
                "it was replaced before, and what was spent under it is forgotten: bring the \
                 issuer's newest pairing.toml to both sides, or make a new one with `tocyn-issuer \
                 pairing renew`",
            ),
        }
    }

    /// Whether the service answers on all that it is set to listen on, with the keys of this
    /// pairing. One that does not run is worth a look, no more.
    pub async fn check_serving(
        &mut self,
        on: ListensOn<'_>,
        pairing: Option<&Pairing>,
        own: &KeysAt,
    ) {
        let check = "service";
        for address in on.admin.open_to_others() {
            self.warn("settings", format!("admin.listen, {address}: {OPEN_TO_OTHERS}"));
        }
        for address in &on.public.0 {
            let url = match address {
                Address::Tcp(tcp) if tcp.port() == 0 => {
                    let text = format!(
                        "{address}: with port 0 a free one is taken, which the doctor cannot know; \
                         set one in `listen`"
                    );
                    self.warn(check, text);
                    continue;
                }
                address => url(address, on.folder),
            };
            let Some(answer) = self.ask(&url, "/readyz", on.proxy_protocol).await else { continue };
            if answer.status != StatusCode::OK {
                let text = format!(
                    "{url}: it runs, but cannot do its work: {}. Its log says more",
                    said(&answer)
                );
                self.bad(check, text);
                continue;
            }
            let published = match (pairing, probe::get(&url, own.path, on.proxy_protocol).await) {
                (Some(pairing), Ok(answer)) => own.hold_against(pairing, &answer),
                _ => Published::Ours, // there is nothing to hold it against
            };
            match published {
                Published::Ours => self.good(check, format!("{url}: it answers and is ready")),
                Published::NoKeys => {
                    self.bad(check, format!("{url}: it answers, and lists no key: {KEYS_ENDED}"));
                }
                Published::Others => self.bad(
                    check,
                    format!(
                        "{url}: what runs there has another pairing than pairing.toml; if that was \
                         changed since it was started, start it again; if not, the address is in \
                         use by another {}",
                        own.service
                    ),
                ),
                Published::Nothing => self.bad(
                    check,
                    format!(
                        "{url}: what answers there is no {}; stop it, or change `listen`",
                        own.service
                    ),
                ),
            }
        }
        for address in &on.admin.0 {
            let url = url(address, on.folder);
            let Some(answer) = self.ask(&url, "/status.json", false).await else { continue };
            match answer.status {
                StatusCode::OK => self.good(check, format!("{url}: the status page is there")),
                _ => self.bad(
                    check,
                    format!(
                        "{url}: what answers there is no status page ({}); stop it, or change \
                         admin.listen",
                        said(&answer)
                    ),
                ),
            }
        }
    }

    /// Asks the service itself; notes if there is no answer.
    async fn ask(&mut self, url: &str, path: &str, proxy_line: bool) -> Option<Answer> {
        let error = match probe::get(url, path, proxy_line).await {
            // A PROXY line is no request of HTTP, and the other way round.
            Ok(answer) if answer.status == StatusCode::BAD_REQUEST => answer.status.to_string(),
            Ok(answer) => return Some(answer),
            Err(error @ ProbeError::Connect(_)) => {
                let text = format!("{url}: {error}; if it should run, start it with `serve`");
                self.warn("service", text);
                return None;
            }
            Err(error) => error.to_string(),
        };
        self.bad(
            "service",
            format!(
                "{url}: {error}; if it is this service, its log says why. If it was started with \
                 another proxy_protocol than is set now, start it again"
            ),
        );
        None
    }

    /// Whether the other one of the pair can be reached, has the same pairing and the same time.
    pub async fn check_peer(&mut self, url: &str, pairing: &Pairing, now: u64, peer: &KeysAt) {
        let (check, service) = ("peer", peer.service);
        let answer = match probe::get(url, peer.path, false).await {
            Ok(answer) => answer,
            Err(error) => {
                let text = format!(
                    "{service} {url}: {error}; is it running, and is this its address? Where a proxy \
                     with TLS or an onion service is before it, give the address behind that"
                );
                return self.bad(check, text);
            }
        };
        match peer.hold_against(pairing, &answer) {
            Published::Ours => {
                self.good(check, format!("{service} {url}: it has the same pairing"));
            }
            Published::NoKeys => {
                self.bad(check, format!("{service} {url}: it lists no key: {KEYS_ENDED}"));
            }
            Published::Others => self.bad(
                check,
                format!(
                    "{service} {url}: it has another pairing, so that no token of this pair is taken: \
                     both sides need the same pairing.toml. Bring the issuer's to the relay with \
                     `tocyn-relay pairing install FILE`, after `tocyn-issuer pairing renew` if \
                     either was replaced before, and start both again"
                ),
            ),
            Published::Nothing => self.bad(
                check,
                format!(
                    "{service} {url}: it does not say its keys ({}); is this the {service}'s address, \
                     and is all well there (`tocyn-{service} doctor`)?",
                    said(&answer)
                ),
            ),
        }
        match answer.date.map(|date| date as i64 - now as i64) {
            None => {}
            Some(off) if off.unsigned_abs() <= CLOCK_TOLERANCE_SECONDS => self.good(
                "clocks",
                format!("this machine's and the {service}'s clock are {} s apart", off.abs()),
            ),
            Some(off) => self.bad(
                "clocks",
                format!(
                    "the {service}'s clock is {} s {} this machine's: set both right, or tokens are \
                     refused around the end of an epoch",
                    off.abs(),
                    if off > 0 { "ahead of" } else { "behind" }
                ),
            ),
        }
    }
}

fn url(address: &Address, folder: &Path) -> String {
    match address {
        Address::Tcp(address) => {
            // Who listens on all addresses answers on loopback.
            let mut address = *address;
            match address.ip() {
                std::net::IpAddr::V4(ip) if ip.is_unspecified() => {
                    address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
                }
                std::net::IpAddr::V6(ip) if ip.is_unspecified() => {
                    address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
                }
                _ => {}
            }
            format!("http://{address}")
        }
        Address::Unix(path) => format!("unix:{}", folder.join(path).display()),
    }
}

/// The status, and why, where the answer says.
fn said(answer: &Answer) -> String {
    let problem: Option<Problem> = serde_json::from_slice(&answer.body).ok();
    match problem {
        Some(problem) => format!("{} {}", answer.status, problem.detail),
        None => answer.status.to_string(),
    }
}
