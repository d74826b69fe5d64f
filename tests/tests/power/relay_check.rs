//! Whether a relay stands by all that it has said.

use tocyn_e2e::bearer::{bound, post};
use tocyn_e2e::disk::Strategy;
use tocyn_protocol::log::tree::{Edge, Tree};
use tocyn_protocol::relay::{CellDecoder, MessageId, RelayInfo};

use crate::bank::{TOKENS, cell_of};
use crate::relay_run::RelayRun;

impl RelayRun {
    /// The power goes; then all that was promised must hold.
    pub(crate) async fn cut_and_check(&mut self, strategy: Option<Strategy>) -> Result<(), String> {
        match strategy {
            Some(strategy) => self.machine.cut(strategy),
            None => self.machine.cut_somehow(),
        }
        assert!(self.start().await?, "nothing freezes it");
        self.check().await
    }

    /// Holds the relay, which runs on a sound disk, to all that it has said.
    pub(crate) async fn check(&mut self) -> Result<(), String> {
        self.check_log().await?;
        self.check_spent().await?;
        self.take_checkpoint().await?;
        match self.told().wrong.first() {
            Some(wrong) => Err(wrong.clone()),
            None => Ok(()),
        }
    }

    /// Checks the log alone: after a restore no earlier token is good.
    pub(crate) async fn check_log(&mut self) -> Result<(), String> {
        let before = self.info().await?;
        let mut decoder = CellDecoder::new(self.cell_bytes);
        let log = decoder.push(&self.get("/v1/messages").await?);
        let info = self.info().await?;
        let mut next = log.first().map_or(info.head + 1, |(seq, _)| *seq);
        // Retention may have its round meanwhile.
        if !(before.oldest..=info.oldest).contains(&next) {
            return Err(format!("the oldest is {}, the log begins with {next}", info.oldest));
        }
        for (seq, cell) in &log {
            if *seq != next {
                return Err(format!("the log has {seq} in the place of {next}"));
            }
            next += 1;
            self.known.insert(*seq, MessageId::of(cell));
        }
        self.known.split_off(&next); // what was not promised may be gone
        if info.head + 1 != next {
            return Err(format!("the head is {}, the log ends before {next}", info.head));
        }
        self.check_receipts(info.head)?;
        self.check_checkpoints()?;
        let folder = self.folder.clone();
        let said = self.machine.service("tocyn-relay", &folder, &["db", "check"])?;
        match said.contains("no fault found") {
            true => Ok(()),
            false => Err(format!("db check: {said}")),
        }
    }

    async fn info(&self) -> Result<RelayInfo, String> {
        Ok(serde_json::from_slice(&self.get("/v1/info").await?).expect("an info document"))
    }

    fn check_receipts(&self, head: u64) -> Result<(), String> {
        let told = self.told();
        let mut lost = Vec::new();
        for (seq, token) in &told.receipts {
            let expected = MessageId::of(&cell_of(*token, self.cell_bytes));
            // Dropped messages were known, or no client of this run has seen them.
            if *seq > head || self.known.get(seq).is_some_and(|id| *id != expected) {
                lost.push(*seq);
            }
        }
        let newest = told.receipts.iter().map(|(seq, _)| *seq).max().unwrap_or(0);
        match lost.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "{} acknowledged messages are lost, from {} on: {newest} was acknowledged, the \
                 head is {head}",
                lost.len(),
                lost.iter().min().expect("not empty")
            )),
        }
    }

    fn check_checkpoints(&self) -> Result<(), String> {
        let dense = (1..).zip(self.known.iter()).take_while(|(n, (seq, _))| n == *seq);
        let ids: Vec<MessageId> = dense.map(|(_, (_, id))| *id).collect();
        let mut tree = Tree::default();
        ids.iter().for_each(|id| tree.push((*id).into()));
        for checkpoint in &self.told().checkpoints {
            if checkpoint.size > self.known.last_key_value().map_or(0, |(seq, _)| *seq) {
                return Err(format!(
                    "a checkpoint of size {} was signed, and the log has {}",
                    checkpoint.size,
                    ids.len()
                ));
            }
            // Of a log whose beginning was dropped before it was seen, only the size is checked.
            if checkpoint.size <= tree.size()
                && Edge::new(checkpoint.size, &tree).map(|edge| edge.root())
                    != Some(checkpoint.root)
            {
                return Err(format!("the signed checkpoint of size {} forks", checkpoint.size));
            }
        }
        Ok(())
    }

    /// Some spent tokens: the same message has the same number, another one is refused.
    async fn check_spent(&mut self) -> Result<(), String> {
        let receipts = self.told().receipts.clone();
        let newest = receipts.iter().max().copied();
        let some = (0..3).filter(|_| !receipts.is_empty());
        let some: Vec<_> = some
            .map(|_| receipts[self.machine.dice.below(receipts.len() as u64) as usize])
            .chain(newest)
            .collect();
        for (seq, token) in some {
            let status = self.repeat(token).await;
            let last = self.told().receipts.pop();
            if (status, last) != (Some(200), Some((seq, token))) {
                return Err(format!("{seq} sent again is answered {status:?}, {last:?}"));
            }
            let other = cell_of(token + TOKENS, self.cell_bytes);
            let authorization = bound(&self.bank.tokens()[token], &other);
            let answer = post(&self.http, &self.url, &authorization, &other).await;
            let status = answer.map_err(|error| error.to_string())?.status().as_u16();
            if status != 409 {
                return Err(format!("another message with the token of {seq}: {status}"));
            }
        }
        Ok(())
    }
}
