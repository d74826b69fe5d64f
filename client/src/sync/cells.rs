//! Cells on their way from the relay or from a mirror.

use tocyn_protocol::log::tile::{Content, TILE_WIDTH, Tile};
use tocyn_protocol::problem::ProblemType;
use tocyn_protocol::relay::RelayInfo;

use super::{Source, SyncError};
use crate::read::{Range, ReadError, Reader};
use crate::transport::HttpError;

/// The cells after a place in the log, in pieces that do not cross the border of a bundle.
pub(super) struct Cells<'a> {
    source: &'a Source<'a>,
    info: &'a RelayInfo,
    reader: Option<Reader<'a>>,
    /// The first message that the source still has, once it has refused for that.
    oldest: Option<u64>,
    /// What came after cells that were given out first.
    failed: Option<ReadError>,
}

impl<'a> Cells<'a> {
    pub(super) fn new(source: &'a Source<'a>, info: &'a RelayInfo) -> Self {
        Self { source, info, reader: None, oldest: None, failed: None }
    }

    /// What the source says about itself.
    pub(super) fn info(&self) -> &RelayInfo {
        self.info
    }

    /// Asks anew from the next place on.
    pub(super) fn ask_again(&mut self) {
        self.reader = None;
    }

    /// Empty where there are no more.
    pub(super) async fn after(&mut self, from: u64, size: u64) -> Result<Vec<Vec<u8>>, SyncError> {
        let end = ((from / TILE_WIDTH + 1) * TILE_WIDTH).min(size);
        match self.source {
            Source::Mirror(files) => {
                if from + 1 < self.info.oldest {
                    let (url, oldest) = (files.url().to_string(), self.info.oldest);
                    return Err(SyncError::MirrorBegins { url, oldest, next: from + 1 });
                }
                let bundle = Tile::in_tree(Content::Entries, from / TILE_WIDTH, size);
                let Some(bundle) = bundle else { return Ok(Vec::new()) };
                let mut cells = files.cells(bundle).await?;
                Ok(cells.split_off((from % TILE_WIDTH) as usize))
            }
            Source::Relay(relay) => {
                if let Some(error) = self.failed.take() {
                    return Err(error.into());
                }
                let mut cells = Vec::new();
                while from + (cells.len() as u64) < end {
                    // From the start of the bundle on: whoever asks for what comes after the exact
                    // place of its last visit is known by it. That the start is gone the relay may
                    // say once, which tells it no more than on which side of that place this is.
                    let start = from / TILE_WIDTH * TILE_WIDTH;
                    let after = self.oldest.map_or(start, |oldest| start.max(oldest - 1).min(from));
                    let range =
                        Range { after: Some(after), limit: Some(size - after), follow: false };
                    let reader =
                        self.reader.get_or_insert_with(|| Reader::new(relay, self.info, range));
                    match reader.next().await {
                        Ok(Some((seq, _))) if seq <= from => {}
                        Ok(Some((_, cell))) => cells.push(cell),
                        Ok(None) => break,
                        // The bundle's start has gone since; what is asked for has not.
                        Err(error) => match gone_before(&error, after, from) {
                            Some(oldest) if self.oldest.is_none() => {
                                self.oldest = Some(oldest);
                                self.reader = None;
                            }
                            _ if cells.is_empty() => return Err(error.into()),
                            _ => {
                                self.failed = Some(error);
                                break;
                            }
                        },
                    }
                }
                Ok(cells)
            }
        }
    }
}

/// The first message that is left, where a relay refuses because the one after `after` is gone, and the
/// one after `from` is not.
fn gone_before(error: &ReadError, after: u64, from: u64) -> Option<u64> {
    let ReadError::Http(HttpError::Refused { problem, .. }) = error else { return None };
    let is_gone = problem.problem_type() == Some(ProblemType::CursorGone);
    problem.oldest.filter(|oldest| is_gone && (after + 2..=from + 1).contains(oldest))
}
