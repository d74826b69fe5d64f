//! Buys the tokens that a benchmark spends, on all cores, before its clock runs.

use futures_util::{StreamExt, TryStreamExt, stream};
use getrandom::SysRng;
use indicatif::ProgressBar;
use rand_core::UnwrapErr;
use tocyn_client::issuer::{Counter, Paid};
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, PendingBatch};
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::relay::RelayInfo;
use tocyn_protocol::token::Token;
use tokio::task::spawn_blocking;

use super::machine;
use super::services::Services;
use crate::cli::CliResult;

/// Tokens in one request.
const BATCH: usize = 256;

/// Where tokens are bought.
pub(crate) struct Shop {
    counter: Counter,
    voucher: String,
    /// What the relay says about itself.
    pub(crate) info: RelayInfo,
    /// What the tokens are for.
    pub(crate) challenge: TokenChallenge,
    /// What they are bought under.
    pub(crate) key: PublicKey,
}

impl Shop {
    /// Asks issuer and relay for their keys.
    pub(crate) async fn open(services: &Services) -> CliResult<Self> {
        let (agreed, key) = services.agree().await?;
        let (challenge, info) = (agreed.challenge(), agreed.met.info);
        let (counter, voucher) = (services.issuer()?.counter()?, services.voucher().to_owned());
        Ok(Self { counter, voucher, info, challenge, key: key.key })
    }

    /// Buys so many tokens and makes something of each.
    pub(crate) async fn buy<T: Send + 'static>(
        &self,
        count: usize,
        bar: &ProgressBar,
        make: impl Fn(Token) -> T + Clone + Send + 'static,
    ) -> CliResult<Vec<T>> {
        let batches = (0..count.div_ceil(BATCH)).map(|_| async {
            let (key, challenge, make) = (self.key, self.challenge.clone(), make.clone());
            let (request, pending) =
                spawn_blocking(move || blind(&key, &challenge, BATCH)).await??;
            let paid = Paid::Voucher(self.voucher.clone().into());
            let answer = self.counter.send(&paid, &request).await?;
            let finalize = move || Ok(pending.finalize(&answer)?.into_iter().map(make).collect());
            let made: CliResultSend<Vec<T>> = spawn_blocking(finalize).await?;
            bar.inc(BATCH as u64);
            made
        });
        let made = stream::iter(batches)
            .buffer_unordered(machine::cores() + 1)
            .try_collect::<Vec<_>>()
            .await;
        let mut made: Vec<T> = made.map_err(|e| e.to_string())?.into_iter().flatten().collect();
        made.truncate(count);
        Ok(made)
    }
}

type CliResultSend<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// A request and what to keep for its answer.
pub(crate) fn blind(
    key: &PublicKey,
    challenge: &TokenChallenge,
    count: usize,
) -> CliResultSend<(AmortizedBatchTokenRequest, PendingBatch)> {
    let rng = &mut UnwrapErr(SysRng);
    Ok(AmortizedBatchTokenRequest::new(key, challenge, count, rng)?)
}
