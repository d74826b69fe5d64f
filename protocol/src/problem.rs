//! Problem documents (RFC 9457), one stable type for each way a request can fail.

use serde::{Deserialize, Serialize};

/// What went wrong. Its [`urn`](ProblemType::urn) is what programs compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs)] // the table below is their documentation
pub enum ProblemType {
    NoToken,
    MalformedToken,
    WrongChallenge,
    UnknownKey,
    BadAuthenticator,
    BadBinding,
    TokenSpent,
    CellSize,
    BodyTooLarge,
    BodyIncomplete,
    MediaType,
    MalformedRequest,
    MalformedTokenRequest,
    BatchTooLarge,
    UnknownTokenKey,
    VoucherMissing,
    VoucherUnknown,
    VoucherExhausted,
    VoucherExpired,
    VoucherRevoked,
    BudgetSpent,
    AttesterOff,
    GrantOver,
    PowForged,
    PowExpired,
    PowUnsolved,
    TooManyReplays,
    TooManyRefusals,
    CursorGone,
    NotFound,
    MethodNotAllowed,
    Busy,
    StorageFull,
    DatabaseDown,
    Internal,
}

/// Type, name after `urn:tocyn:problem:`, HTTP status, title.
const TABLE: &[(ProblemType, &str, u16, &str)] = {
    use ProblemType::*;
    &[
        (NoToken, "no-token", 401, "A token is needed"),
        (MalformedToken, "malformed-token", 401, "The token is malformed"),
        (WrongChallenge, "wrong-challenge", 401, "The token is for another relay or issuer"),
        (UnknownKey, "unknown-key", 401, "The token's key is unknown or its epoch is over"),
        (BadAuthenticator, "bad-authenticator", 401, "The token is not genuine"),
        (BadBinding, "bad-binding", 401, "The token is not bound to this message"),
        (TokenSpent, "token-spent", 409, "The token was spent on another message"),
        (CellSize, "cell-size", 422, "The cell has the wrong size"),
        (BodyTooLarge, "body-too-large", 413, "The body is too large"),
        (BodyIncomplete, "body-incomplete", 408, "The body did not arrive in time"),
        (MediaType, "media-type", 415, "The media type is not supported"),
        (MalformedRequest, "malformed-request", 400, "The request is malformed"),
        (MalformedTokenRequest, "malformed-token-request", 422, "The token request is malformed"),
        (BatchTooLarge, "batch-too-large", 422, "The batch is too large"),
        (UnknownTokenKey, "unknown-token-key", 422, "The request's key is not in use"),
        (VoucherMissing, "voucher-missing", 401, "A voucher is needed"),
        (VoucherUnknown, "voucher-unknown", 401, "The voucher is unknown"),
        (VoucherExhausted, "voucher-exhausted", 403, "The voucher's balance is too low"),
        (VoucherExpired, "voucher-expired", 403, "The voucher has expired"),
        (VoucherRevoked, "voucher-revoked", 403, "The voucher was revoked"),
        (
            BudgetSpent,
            "budget-spent",
            429,
            "The issuer has handed out all that it may in this epoch",
        ),
        (AttesterOff, "attester-off", 403, "The issuer does not hand out tokens in this way"),
        (GrantOver, "grant-over", 409, "The code of this grant cannot be shown again"),
        (PowForged, "pow-forged", 403, "The challenge is not of this issuer"),
        (PowExpired, "pow-expired", 403, "The challenge is too old, or too little work by now"),
        (PowUnsolved, "pow-unsolved", 403, "The proof of work is not for this request"),
        (TooManyReplays, "too-many-replays", 429, "The request was repeated too often"),
        (
            TooManyRefusals,
            "too-many-refusals",
            429,
            "Too many requests of this client were refused",
        ),
        (CursorGone, "cursor-gone", 410, "The messages asked for are no longer kept"),
        (NotFound, "not-found", 404, "There is nothing here"),
        (MethodNotAllowed, "method-not-allowed", 405, "The method is not allowed here"),
        (Busy, "busy", 503, "The service is busy"),
        (StorageFull, "storage-full", 507, "The storage is full"),
        (DatabaseDown, "database-down", 503, "The database does not answer"),
        (Internal, "internal", 500, "The service failed"),
    ]
};

impl ProblemType {
    fn row(self) -> &'static (ProblemType, &'static str, u16, &'static str) {
        TABLE.iter().find(|row| row.0 == self).expect("the table has every type")
    }

    /// The stable name, as `urn:tocyn:problem:token-spent`.
    pub fn urn(self) -> String {
        format!("urn:tocyn:problem:{}", self.name())
    }

    /// The last part of the URN, as `token-spent`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.row().2
    }

    /// The title, the same for every problem of this type.
    pub fn title(self) -> &'static str {
        self.row().3
    }

    /// The type with this URN.
    pub fn from_urn(urn: &str) -> Option<Self> {
        let name = urn.strip_prefix("urn:tocyn:problem:")?;
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Every type.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }
}

/// A problem document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The URN of a [`ProblemType`].
    #[serde(rename = "type")]
    pub urn: String,
    /// The type's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time, and what to do.
    pub detail: String,
    /// `voucher-exhausted`: tokens left on the voucher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balance: Option<u64>,
    /// `batch-too-large`, `cell-size`, `body-too-large`: the limit, in tokens or bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// `cursor-gone`: the oldest sequence that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
}

impl Problem {
    /// A problem with what to say about this occurrence.
    pub fn new(problem_type: ProblemType, detail: impl Into<String>) -> Self {
        Self {
            urn: problem_type.urn(),
            title: problem_type.title().to_owned(),
            status: problem_type.status(),
            detail: detail.into(),
            balance: None,
            limit: None,
            oldest: None,
        }
    }

    /// The type, if this crate knows it.
    pub fn problem_type(&self) -> Option<ProblemType> {
        ProblemType::from_urn(&self.urn)
    }
}
