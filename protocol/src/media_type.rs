//! HTTP media types.

/// Request for one token (RFC 9578 section 8.4).
pub const TOKEN_REQUEST: &str = "application/private-token-request";
/// Answer with one token.
pub const TOKEN_RESPONSE: &str = "application/private-token-response";
/// Request for a batch (batched-tokens-07).
pub const BATCH_REQUEST: &str = "application/private-token-amortized-batch-request";
/// Answer with a batch.
pub const BATCH_RESPONSE: &str = "application/private-token-amortized-batch-response";
/// The issuer's directory (RFC 9578 section 4).
pub const ISSUER_DIRECTORY: &str = "application/private-token-issuer-directory";
/// A stream of cells: for each one its sequence as `u64`, then the cell.
pub const CELLS: &str = "application/vnd.tocyn.cells";
/// A posted cell.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// A signed checkpoint (c2sp.org/tlog-tiles).
pub const TEXT: &str = "text/plain; charset=utf-8";
/// A problem document (RFC 9457).
pub const PROBLEM: &str = "application/problem+json";
