//! What is said about it.

use serde_json::{Value, json};

use super::super::charts::{Axis, Chart, Line, Scale};
use super::super::report::{Report, Table};
use super::model::filling_a_core;
use super::{Args, Designs, Outcome, Units};

pub(super) fn report(args: &Args, units: &Units, designs: &Designs) -> Report {
    let outcomes: Vec<Outcome> = args.cores.iter().map(|n| designs.outcome(*n)).collect();
    let token_phone = designs.tokens.phone_seconds(&designs.world);
    let mut costs = Table::new([
        "each post asks for",
        "phone pays, s",
        "relay pays to refuse, us",
        "bad posts/s to fill a core",
    ]);
    for (name, phone, refuse) in designs.costs() {
        let filling = filling_a_core(refuse);
        costs.rows.push(vec![
            name.to_owned(),
            short(phone),
            format!("{refuse:.2}"),
            format!("{filling:.0}"),
        ]);
    }
    let mut spam = Table::new([
        "attacker's cores",
        "spam/h: hashcash",
        "Equi-X",
        "tokens",
        "adaptive: spam/h",
        "phone s: hashcash",
        "Equi-X",
        "tokens",
    ]);
    for outcome in &outcomes {
        let mut row = vec![outcome.cores.to_string()];
        row.extend(outcome.spam.map(|spam| format!("{spam:.0}")));
        row.push(format!("{:.0}", outcome.adaptive_spam[0].max(outcome.adaptive_spam[1])));
        row.extend(outcome.adaptive_phone.map(short));
        row.push(short(token_phone));
        spam.rows.push(row);
    }
    Report {
        title: "tocyn bench exhaustion: a relay that asks for work, and one that asks for tokens",
        facts: facts(args, units),
        tables: vec![costs, spam],
        notes: notes(args),
        charts: charts(&outcomes, token_phone),
        json: json!({
            "benchmark": "exhaustion",
            "measured_us": {
                "sha256": units.hash, "token_client": units.client,
                "token_redeem": units.redeem, "token_issue": units.issue,
            },
            "assumed": {
                "phone_speed": args.phone_speed, "phone_seconds": args.phone_seconds,
                "capacity_per_second": args.capacity, "honest_per_second": args.honest,
                "hashcash_speedup": args.hashcash_speedup,
                "equix_solve_ms": args.equix_solve_ms, "equix_verify_us": args.equix_verify_us,
                "vouchers": args.vouchers, "voucher_tokens": args.voucher_tokens,
                "epoch_hours": args.epoch_hours,
            },
            "phone_seconds_per_post": by_name(designs.costs().map(|(_, phone, _)| phone)),
            "refuse_us": by_name(designs.costs().map(|(_, _, refuse)| refuse)),
            "attackers": outcomes.iter().map(Outcome::to_json).collect::<Vec<_>>(),
        }),
    }
}

impl Outcome {
    fn to_json(&self) -> Value {
        json!({
            "cores": self.cores,
            "spam_per_hour": by_name(self.spam),
            "adaptive": {
                "spam_per_hour": by_name(self.adaptive_spam),
                "phone_seconds_per_post": by_name(self.adaptive_phone),
            },
        })
    }
}

fn by_name<const N: usize>(values: [f64; N]) -> Value {
    let names = ["hashcash", "equix", "tokens"];
    names.into_iter().zip(values).map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// Three digits that count.
fn short(seconds: f64) -> String {
    let digits = (2.0 - seconds.abs().max(1e-12).log10().floor()).clamp(0.0, 9.0);
    format!("{seconds:.*}", digits as usize)
}

fn facts(args: &Args, units: &Units) -> Vec<(&'static str, String)> {
    let Units { hash, client, redeem, issue } = units;
    vec![
        (
            "measured",
            format!(
                "SHA-256 {hash:.3} us; a token: client {client:.1}, issue {issue:.1}, redeem {redeem:.1} us of one core"
            ),
        ),
        (
            "phone",
            format!(
                "assumed: {} of a core of this machine; may be asked for {} s a post",
                args.phone_speed, args.phone_seconds
            ),
        ),
        (
            "room",
            format!("assumed: {} posts a second, of them {} honest", args.capacity, args.honest),
        ),
        (
            "hashcash",
            format!(
                "assumed: the attacker's hardware does {} cores' work for each core",
                args.hashcash_speedup
            ),
        ),
        (
            "Equi-X",
            format!(
                "from its author: {} ms a solution, {} us to verify, on one core",
                args.equix_solve_ms, args.equix_verify_us
            ),
        ),
        (
            "vouchers",
            format!(
                "assumed: the attacker has {}, each buys {} tokens in {} hours",
                args.vouchers, args.voucher_tokens, args.epoch_hours
            ),
        ),
    ]
}

fn notes(args: &Args) -> Vec<String> {
    let all = args.vouchers * args.voucher_tokens;
    vec![
        "Spam is what gets in, an hour on average. At a fixed effort it grows with the attacker's \
         cores; the adaptive effort of Tor's proposal 327 rises until spam fits the room, and then \
         every phone pays."
            .to_owned(),
        format!(
            "With tokens cores do not help: what counts is how many vouchers an attacker gets. All \
             {all:.0} tokens of an epoch may come at once."
        ),
        "Refusing a token costs the relay more than refusing a hash. Cheaper checks come first \
         (lengths, challenge, key), but a flood of tokens of genuine form is met with cores."
            .to_owned(),
    ]
}

fn charts(outcomes: &[Outcome], token_phone: f64) -> Vec<Chart> {
    let x = || Axis { name: "attacker's cores", scale: Scale::Log };
    let line = |name: &str, value: &dyn Fn(&Outcome) -> f64| Line {
        name: name.to_owned(),
        points: outcomes.iter().map(|o| (f64::from(o.cores), value(o))).collect(),
    };
    vec![
        Chart {
            title: "Spam posts an hour, at a fixed effort",
            caption: "Proof of work set so that a phone pays the time that the operator chose. \
                      The puzzles lie on one line unless the attacker has other hardware for one."
                .to_owned(),
            x: x(),
            y: Axis { name: "spam posts an hour", scale: Scale::Log },
            lines: vec![
                line("hashcash", &|o| o.spam[0]),
                line("Equi-X", &|o| o.spam[1]),
                line("tokens", &|o| o.spam[2]),
            ],
        },
        Chart {
            title: "What an honest phone pays for a post, at an adaptive effort",
            caption: "The effort rises until spam fits the room that there is.".to_owned(),
            x: x(),
            y: Axis { name: "seconds", scale: Scale::Log },
            lines: vec![
                line("hashcash", &|o| o.adaptive_phone[0]),
                line("Equi-X", &|o| o.adaptive_phone[1]),
                line("tokens", &|_| token_phone),
            ],
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits() {
        for (number, text) in [(0.000_345_6, "0.000346"), (1.0, "1.00"), (4444.4, "4444")] {
            assert_eq!(short(number), text);
        }
    }
}
