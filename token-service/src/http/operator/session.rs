//! Who is logged in on the status page. A session is a random number in a cookie; each form carries
//! another number that is made from it, which no other site can know (CSRF).

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use getrandom::SysRng;
use rand_core::{Rng, UnwrapErr};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const COOKIE: &str = "tocyn_session";
/// A session ends so long after its start.
const LIFETIME: Duration = Duration::from_secs(3600);
/// More than that at once are not one operator's.
const MAX_SESSIONS: usize = 64;

/// Whether two secrets are the same, in a time that does not tell.
pub(super) fn same_secret(a: &str, b: &str) -> bool {
    // Hashed first: the comparison of lengths would tell them.
    Sha256::digest(a).ct_eq(&Sha256::digest(b)).into()
}

/// The sessions.
pub(super) struct Sessions {
    credential: Zeroizing<String>,
    /// By the hash of the cookie.
    open: Mutex<HashMap<[u8; 32], Instant>>,
}

/// A request of somebody who is logged in.
pub(super) struct Session(Zeroizing<String>);

impl Sessions {
    pub(super) fn new(credential: Zeroizing<String>) -> Self {
        Self { credential, open: Mutex::default() }
    }

    /// A new session's cookie, for whoever has the credential.
    pub(super) fn log_in(&self, credential: &str) -> Option<String> {
        if !same_secret(credential.trim(), &self.credential) {
            return None;
        }
        let mut bytes = Zeroizing::new([0; 32]);
        UnwrapErr(SysRng).fill_bytes(bytes.as_mut());
        let text = hex::encode(bytes.as_slice());
        let mut open = self.open.lock().expect("no panic under the lock");
        open.retain(|_, start| start.elapsed() < LIFETIME);
        if open.len() >= MAX_SESSIONS {
            open.clear();
        }
        open.insert(hash(&text), Instant::now());
        Some(format!("{COOKIE}={text}; HttpOnly; SameSite=Strict; Path=/; Max-Age=3600"))
    }

    /// The session of a request, if it has one.
    pub(super) fn of(&self, headers: &HeaderMap) -> Option<Session> {
        let cookies =
            headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = cookies.flat_map(|text| text.split(';')).map(str::trim);
        let text = cookies.find_map(|cookie| cookie.strip_prefix(COOKIE)?.strip_prefix('='))?;
        let open = self.open.lock().expect("no panic under the lock");
        let start = open.get(&hash(text))?;
        (start.elapsed() < LIFETIME).then(|| Session(Zeroizing::new(text.to_owned())))
    }

    /// The session of a form that was sent from our own page.
    pub(super) fn of_form(&self, headers: &HeaderMap, csrf: &str) -> Option<Session> {
        self.of(headers).filter(|session| same_secret(csrf, &session.csrf()))
    }

    pub(super) fn end(&self, session: &Session) {
        self.open.lock().expect("no panic under the lock").remove(&hash(&session.0));
    }
}

impl Session {
    /// What each form carries.
    pub(super) fn csrf(&self) -> String {
        hex::encode(Sha256::digest(format!("tocyn csrf {}", *self.0)))
    }
}

fn hash(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(cookie: &str) -> HeaderMap {
        let value = cookie.split(';').next().unwrap();
        let value = format!("other=1; {value}");
        HeaderMap::from_iter([(header::COOKIE, value.parse().unwrap())])
    }

    #[test]
    fn a_form_needs_the_cookie_and_what_only_the_page_says() {
        let sessions = Sessions::new(Zeroizing::new("x".repeat(32)));
        assert!(sessions.log_in("y").is_none());
        let cookie = sessions.log_in(&format!("{}\n", "x".repeat(32))).unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"));
        let session = sessions.of(&headers(&cookie)).unwrap();
        let other = sessions.log_in(&"x".repeat(32)).unwrap();
        let other = sessions.of(&headers(&other)).unwrap();
        assert!(sessions.of_form(&headers(&cookie), &session.csrf()).is_some());
        assert!(sessions.of_form(&headers(&cookie), &other.csrf()).is_none());
        assert!(sessions.of_form(&headers(&cookie), "").is_none());
        assert!(sessions.of_form(&HeaderMap::new(), &session.csrf()).is_none());
        assert!(sessions.of(&headers("tocyn_session=00")).is_none());
        sessions.end(&session);
        assert!(sessions.of(&headers(&cookie)).is_none());
    }

    #[test]
    fn a_session_ends_after_its_time() {
        let sessions = Sessions::new(Zeroizing::new("x".repeat(32)));
        let cookie = sessions.log_in(&"x".repeat(32)).unwrap();
        let session = sessions.of(&headers(&cookie)).unwrap();
        assert!(cookie.ends_with(&format!("Max-Age={}", LIFETIME.as_secs())));
        let before = |age| {
            let mut open = sessions.open.lock().unwrap();
            let start = Instant::now().checked_sub(age).unwrap();
            open.values_mut().for_each(|at| *at = start);
        };
        before(LIFETIME - Duration::from_secs(60));
        assert!(sessions.of(&headers(&cookie)).is_some());
        before(LIFETIME);
        assert!(sessions.of(&headers(&cookie)).is_none());
        assert!(sessions.of_form(&headers(&cookie), &session.csrf()).is_none());
        // It is forgotten when somebody logs in.
        sessions.log_in(&"x".repeat(32)).unwrap();
        assert_eq!(sessions.open.lock().unwrap().len(), 1);
    }
}
