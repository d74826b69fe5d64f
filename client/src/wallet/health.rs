//! What is missing in a group.

use sqlx::Row;

use super::messages::called;
use super::{Group, Wallet, WalletError, bytes32};
use crate::group::message::{Author, Id};

/// A member, from what it said.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Member {
    /// What it wants to be called, and the first digits of its key.
    pub name: String,
    /// Messages that are here.
    pub messages: u64,
    /// Numbers of its messages that are not here, though later ones are.
    pub missing: Vec<u64>,
    /// Those of them that may be among what was no longer kept, or were accepted.
    pub excused: Vec<u64>,
}

/// A message that others have seen and that is not here.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Missing {
    /// Its id, in hexadecimal.
    pub message: String,
    /// Who answered to it.
    pub seen_by: Vec<String>,
    /// It may be among what was no longer kept, or was accepted.
    pub excused: bool,
}

/// A message of which cells are missing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Incomplete {
    /// Its id, in hexadecimal.
    pub message: String,
    /// Cells that are here.
    pub parts: u64,
    /// Cells that it has.
    pub of: u64,
}

/// Whether anything is missing in a group.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct GroupHealth {
    /// The group's name.
    pub group: String,
    /// Who has said something.
    pub members: Vec<Member>,
    /// Messages that were seen by others.
    pub missing: Vec<Missing>,
    /// Messages that are not whole.
    pub incomplete: Vec<Incomplete>,
    /// Messages that came late: the relay, or the way to it, has held them back.
    pub late: u64,
    /// Cells that came again; they change nothing.
    pub duplicates: u64,
    /// Cells that only pretend to be of the group; they change nothing.
    pub spoiled: u64,
    /// Messages of the log that were no longer kept when this group was read.
    pub skipped: u64,
    /// Cells of this member that have no receipt yet.
    pub waiting: u64,
    /// Messages of this member that the relay has acknowledged, and that are not in its log.
    pub unpublished: u64,
    /// Whether something is missing that cannot be among what was no longer kept, nor was accepted:
    /// the relay left it out, or a member names what never was.
    pub gap: bool,
}

impl Wallet {
    /// What is missing in a group.
    pub async fn health(&self, group: &Group) -> Result<GroupHealth, WalletError> {
        let mut members: Vec<(Author, Member)> = Vec::new();
        let mut last_seq = 0;
        let rows = sqlx::query(
            "SELECT author, name, counter, coalesce(seq, 9223372036854775807) AS place
             FROM messages WHERE group_id = ?1 ORDER BY author, counter",
        );
        for row in &rows.bind(group.id).fetch_all(&self.pool).await? {
            let author = Author(bytes32(row, "author")?);
            let counter = row.try_get::<i64, _>("counter")? as u64;
            if members.last().is_none_or(|(last, _)| *last != author) {
                let member = Member {
                    name: String::new(),
                    messages: 0,
                    missing: Vec::new(),
                    excused: Vec::new(),
                };
                members.push((author, member));
                last_seq = 0;
            }
            let (_, member) = members.last_mut().expect("there is one now");
            member.name = called(&row.try_get::<String, _>("name")?, author);
            let due = member.messages + member.missing.len() as u64 + 1;
            // A counter that jumps by millions is a member's fault, and not worth a list.
            let lacking = (due..counter).take(1000);
            let place = row.try_get::<i64, _>("place")? as u64;
            // What is missing lies after the author's last message, and this one names it.
            if last_seq < group.excused_to || place <= group.accepted_to {
                member.excused.extend(lacking.clone());
            }
            member.missing.extend(lacking);
            last_seq = place;
            member.messages += u64::from(counter >= due);
        }
        let rows = sqlx::query(
            "SELECT parent, author, name, seq <= ?3 OR (?2 > 0 AND NOT EXISTS (
                     SELECT 1 FROM messages AS earlier
                     WHERE earlier.group_id = ?1 AND earlier.author = messages.author
                         AND earlier.counter < messages.counter AND earlier.seq > ?2)) AS excused
             FROM parents JOIN messages
                 ON messages.group_id = parents.group_id AND messages.id = child
             WHERE parents.group_id = ?1 AND NOT EXISTS (
                 SELECT 1 FROM messages WHERE group_id = ?1 AND id = parent)
             GROUP BY parent, author ORDER BY parent",
        );
        let mut missing: Vec<Missing> = Vec::new();
        let rows = rows.bind(group.id).bind(group.excused_to as i64).bind(group.accepted_to as i64);
        for row in &rows.fetch_all(&self.pool).await? {
            let message = Id(bytes32(row, "parent")?).to_string();
            let excused = row.try_get::<Option<bool>, _>("excused")?.unwrap_or(false);
            let by = called(&row.try_get::<String, _>("name")?, Author(bytes32(row, "author")?));
            match missing.last_mut().filter(|last| last.message == message) {
                Some(last) => {
                    last.seen_by.push(by);
                    last.excused &= excused;
                }
                None => missing.push(Missing { message, seen_by: vec![by], excused }),
            }
        }
        let rows = sqlx::query(
            "SELECT message, count(*) AS here, max(parts) AS parts FROM parts
             WHERE group_id = ?1 AND bytes IS NOT NULL GROUP BY message, author",
        );
        let incomplete = rows.bind(group.id).fetch_all(&self.pool).await?;
        let incomplete = incomplete.iter().map(|row| {
            Ok(Incomplete {
                message: Id(bytes32(row, "message")?).to_string(),
                parts: row.try_get::<i64, _>("here")? as u64,
                of: row.try_get::<i64, _>("parts")? as u64,
            })
        });
        let numbers = sqlx::query(
            "SELECT duplicates, spoiled, skipped,
                 (SELECT count(*) FROM messages WHERE group_id = ?1 AND late > 0) AS late,
                 (SELECT count(*) FROM outbox WHERE group_id = ?1) AS waiting,
                 (SELECT count(*) FROM messages WHERE group_id = ?1 AND author = ?2 AND seq IS NULL
                      AND NOT EXISTS (SELECT 1 FROM outbox WHERE group_id = ?1)
                      AND NOT EXISTS (SELECT 1 FROM receipts WHERE log_key = groups.log_key)
                 ) AS unpublished
             FROM groups WHERE id = ?1",
        );
        let own = group.author.author();
        let numbers = numbers.bind(group.id).bind(&own.0[..]).fetch_one(&self.pool).await?;
        let number = |name| Ok::<u64, sqlx::Error>(numbers.try_get::<i64, _>(name)? as u64);
        let lacks = |(_, member): &(Author, Member)| member.missing.len() > member.excused.len();
        let gap = members.iter().any(lacks) || missing.iter().any(|missing| !missing.excused);
        Ok(GroupHealth {
            group: group.invite.name.clone(),
            members: members.into_iter().map(|(_, member)| member).collect(),
            missing,
            incomplete: incomplete.collect::<Result<_, WalletError>>()?,
            late: number("late")?,
            duplicates: number("duplicates")?,
            spoiled: number("spoiled")?,
            skipped: number("skipped")?,
            waiting: number("waiting")?,
            unpublished: number("unpublished")?,
            gap,
        })
    }
}
