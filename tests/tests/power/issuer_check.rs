//! Whether an issuer stands by all that it has answered, and its balances are exact.

use serde_json::Value;
use tocyn_e2e::disk::Strategy;

use crate::issuer_client::tokens;
use crate::issuer_run::{GRANTED, IssuerRun};

impl IssuerRun {
    /// The power goes; then all that was promised must hold.
    pub(crate) async fn cut_and_check(&mut self, strategy: Option<Strategy>) -> Result<(), String> {
        match strategy {
            Some(strategy) => self.machine.cut(strategy),
            None => self.machine.cut_somehow(),
        }
        assert!(self.start()?, "nothing freezes it");
        self.check().await
    }

    /// Holds the issuer, which runs on a sound disk, to all that was answered. Every request has its
    /// tokens afterwards.
    pub(crate) async fn check(&mut self) -> Result<(), String> {
        self.check_balances()?;
        self.send_again().await;
        // Repeats of what was answered long ago cost nothing, and have an answer.
        let answered = self.purchases().answered();
        let buyer = self.buyer();
        for _ in 0..3.min(answered.len()) {
            let request = answered[self.machine.dice.below(answered.len() as u64) as usize];
            if buyer.send(request).await != Some(200) {
                return Err(format!("request {request} sent again has no answer"));
            }
        }
        let open = self.purchases().unanswered();
        if !open.is_empty() {
            return Err(format!("requests {open:?} have no answer from a sound issuer"));
        }
        if let Some(wrong) = self.purchases().wrong.first() {
            return Err(wrong.clone());
        }
        self.check_balances()?; // now exact: no request is open
        self.check_ledger()?;
        let said = self.machine.service("tocyn-issuer", "issuer", &["db", "check"])?;
        match said.contains("no fault found") {
            true => Ok(()),
            false => Err(format!("db check: {said}")),
        }
    }

    fn check_balances(&mut self) -> Result<(), String> {
        let list =
            self.machine.service("tocyn-issuer", "issuer", &["voucher", "list", "--json"])?;
        let rows: Vec<Value> = serde_json::from_str(&list).map_err(|error| error.to_string())?;
        let buyers = self.buyer().vouchers.len();
        for (number, voucher) in self.vouchers.iter().enumerate() {
            let row = rows.iter().find(|row| row["id"] == *voucher.id);
            let Some(balance) = row.and_then(|row| row["balance"].as_u64()) else {
                return Err(format!("voucher {} was made, and is gone", voucher.id));
            };
            let (least, most) = match number < buyers {
                true => self.purchases().charged(number, buyers),
                false => (0, 0),
            };
            let charged = GRANTED - balance;
            if charged < least || charged > most {
                return Err(format!(
                    "voucher {number} was charged {charged} tokens; {least} were handed out, and \
                     {most} asked for"
                ));
            }
        }
        Ok(())
    }

    /// The ledger has what was handed out, once each.
    fn check_ledger(&mut self) -> Result<(), String> {
        let ledger = ["ledger", "show", "--json"];
        let said = self.machine.service("tocyn-issuer", "issuer", &ledger)?;
        // Warnings are on other lines.
        let json = said.lines().find(|line| line.starts_with('[')).unwrap_or("[]");
        let rows: Vec<Value> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let issued: u64 = rows.iter().filter_map(|row| row["issued"].as_u64()).sum();
        let expected: u64 = self.purchases().answered().into_iter().map(tokens).sum();
        match issued == expected {
            true => Ok(()),
            false => Err(format!("the ledger has {issued} tokens, {expected} were handed out")),
        }
    }
}
