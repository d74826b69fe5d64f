//! Buys the tokens that a benchmark spends, on all cores, before its clock runs.

use futures_util::{StreamExt, TryStreamExt, stream};
use getrandom::SysRng;
use indicatif::ProgressBar;
use rand_core::UnwrapErr;
use tocyn_client::issuer::{IssuerClient, Paid};
use tocyn_client::keys::Agreed;
use tocyn_protocol::challenge::TokenChallenge;
use tocyn_protocol::issuance::{AmortizedBatchTokenRequest, PendingBatch};
use tocyn_protocol::keys::PublicKey;
use tocyn_protocol::token::Token;
use tokio::task::spawn_blocking;

use super::machine;
use super::services::Services;
use crate::cli::CliResult;

/// Tokens in one request.
const BATCH: usize = 256;

/// Where tokens are bought.
pub(crate) struct Shop {
    issuer: IssuerClient,
    voucher: String,
    pub(crate) agreed: Agreed,
    challenge: TokenChallenge,
}

impl Shop {
    /// Asks issuer and relay for their keys.
    pub(crate) async fn open(services: &Services) -> CliResult<Self> {
        let agreed = services.agree().await?;
        let challenge = agreed.pair.challenge()?;
        let voucher = services.voucher().to_owned();
        Ok(Self { issuer: services.issuer()?, voucher, agreed, challenge })
    }

    /// Buys so many tokens and makes something of each.
    pub(crate) async fn buy<T: Send + 'static>(
        &self,
        count: usize,
        bar: &ProgressBar,
        make: impl Fn(Token) -> T + Clone + Send + 'static,
    ) -> CliResult<Vec<T>> {
        let batches = (0..count.div_ceil(BATCH)).map(|_| async {
            let (key, challenge, make) =
                (self.agreed.key.key, self.challenge.clone(), make.clone());
            let (request, pending) =
                spawn_blocking(move || blind(&key, &challenge, BATCH)).await??;
            let url = &self.agreed.request_url;
            let answer = self
                .issuer
                .send(url, &Paid::Voucher(self.voucher.clone().into()), &request)
                .await?;
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
