//! Prints each step with its time.

use std::time::{Duration, Instant};

use crate::DemoResult;

/// The steps so far.
#[derive(Default)]
pub(crate) struct Report {
    steps: usize,
    spent: Duration,
}

impl Report {
    /// Runs a step that says what it showed.
    pub(crate) fn step(
        &mut self,
        what: &str,
        run: impl FnOnce() -> DemoResult<String>,
    ) -> DemoResult {
        self.value(what, || run().map(|said| ((), said)))
    }

    /// Runs a step that also gives a value to later ones.
    pub(crate) fn value<T>(
        &mut self,
        what: &str,
        run: impl FnOnce() -> DemoResult<(T, String)>,
    ) -> DemoResult<T> {
        let start = Instant::now();
        let (value, said) = run().map_err(|error| format!("{what}: {error}"))?;
        self.print(what, &said, start.elapsed());
        Ok(value)
    }

    /// Prints a step that ran already.
    pub(crate) fn print(&mut self, what: &str, said: &str, took: Duration) {
        self.steps += 1;
        self.spent += took;
        println!(
            "{:>2}  {what:<52} {:>8.1} ms\n      {said}",
            self.steps,
            took.as_secs_f64() * 1e3
        );
    }

    /// Number and time of all steps.
    pub(crate) fn summary(&self) -> String {
        format!("{} steps in {:.1} s", self.steps, self.spent.as_secs_f64())
    }
}
