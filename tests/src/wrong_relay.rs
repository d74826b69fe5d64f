//! A relay that does wrong. It has the real relay's key and lets that one take the tokens, but keeps
//! logs of its own: one *view* for each of its addresses, so that it can show different people
//! different things. Whatever it shows is signed as it should be, unless a test wants otherwise.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path as UrlPath, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tocyn_protocol::log::checkpoint::Checkpoint;
use tocyn_protocol::log::evidence::SignedProof;
use tocyn_protocol::log::note::LogKey;
use tocyn_protocol::log::proof::InclusionProof;
use tocyn_protocol::log::tile::{Content, TILE_HEIGHT, Tile, encode_hashes, put_entry};
use tocyn_protocol::log::tree::{Edge, Nodes, Tree};
use tocyn_protocol::problem::{Problem, ProblemType};
use tocyn_protocol::relay::{MessageId, PostReceipt, ProvenReceipt, RelayInfo};
use tocyn_protocol::statement::Commitment;
use tocyn_protocol::statement::chain::Chain;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::bearer::http_client;
use crate::member::{newest_statement, relay};
use crate::service::Service;

/// What happens to the posts that come now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// They go into every view.
    Publish,
    /// Into these views only. The others never get them.
    OnlyTo(Vec<usize>),
    /// Into none, and the sender gets no receipt.
    Drop,
    /// Into none, but the sender gets a receipt that looks good.
    OnlyAcknowledge,
    /// Into none, and the sender gets a receipt whose proof is none.
    BadReceipt,
    /// Into none for now: [`WrongRelay::release`] puts them in.
    HoldBack,
    /// Into every view, twice.
    Twice,
    /// Each message is refused the first time that it comes, and goes into every view the second time.
    RefuseFirst,
}

/// Changes an info document for one of its readers.
pub type ChangeInfo = Arc<dyn Fn(usize, &mut RelayInfo) + Send + Sync>;

/// What one address shows.
#[derive(Clone, Default)]
pub struct View {
    /// The log.
    pub cells: Vec<Vec<u8>>,
    /// What is served in place of some cells, by their place from 0.
    pub served: HashMap<usize, Vec<u8>>,
    /// Changes the info document for the reader of this number, from 0.
    pub info: Option<ChangeInfo>,
    /// Info documents that were read.
    pub looks: usize,
    /// Whether checkpoints are signed with a key that is not the log's.
    pub other_key: bool,
    /// Messages before this one are said to be gone.
    pub oldest: Option<u64>,
    /// What checkpoints name instead of the newest statement of keys that was shown last.
    pub keys: Option<Commitment>,
    /// What receipts name instead of what checkpoints do.
    pub receipt_keys: Option<Commitment>,
    /// The newest statement of keys that was shown last.
    shown: Option<Commitment>,
}

struct Shared {
    real: String,
    key: LogKey,
    keys: Commitment,
    views: Mutex<Vec<View>>,
    rule: Mutex<Rule>,
    held: Mutex<Vec<Vec<u8>>>,
    /// Posts that came: the client's port, and the message.
    posts: Mutex<Vec<(u16, MessageId)>>,
}

/// A running relay. Dropping it ends it.
pub struct WrongRelay {
    shared: Arc<Shared>,
    urls: Vec<String>,
    tasks: Vec<AbortHandle>,
}

impl WrongRelay {
    /// In front of the real relay, whose data folder this is, with so many views.
    pub async fn start(real: &Service, data: &Path, views: usize) -> Self {
        let key = std::fs::read_to_string(data.join("log.key")).expect("the relay's key");
        let shown = relay(real.url()).info().await.expect("an info document");
        let shared = Arc::new(Shared {
            real: real.url().to_owned(),
            keys: newest_statement(&shown),
            key: LogKey::from_secret_text(key.trim()).expect("a key"),
            views: Mutex::new(vec![View::default(); views]),
            rule: Mutex::new(Rule::Publish),
            held: Mutex::default(),
            posts: Mutex::default(),
        });
        let (mut urls, mut tasks) = (Vec::new(), Vec::new());
        for view in 0..views {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            urls.push(format!("http://{}", listener.local_addr().expect("it is bound")));
            let state = At { shared: shared.clone(), view };
            let router = Router::new()
                .route("/v1/info", get(info))
                .route("/v1/messages", get(read).post(post))
                .route("/checkpoint", get(checkpoint))
                .route("/tile/{*path}", get(tile))
                .with_state(state);
            let router = router.into_make_service_with_connect_info::<SocketAddr>();
            let serve = axum::serve(listener, router).into_future();
            tasks.push(tokio::spawn(async move { serve.await.expect("it serves") }).abort_handle());
        }
        Self { shared, urls, tasks }
    }

    /// The address of a view.
    pub fn url(&self, view: usize) -> &str {
        &self.urls[view]
    }

    /// From now on posts are treated so.
    pub fn set(&self, rule: Rule) {
        *self.shared.rule.lock().expect("no panic under the lock") = rule;
    }

    /// The views, to be changed at will.
    pub fn views(&self) -> MutexGuard<'_, Vec<View>> {
        self.shared.views()
    }

    /// The posts that came, as the relay can tell them apart: by connection, with what was posted.
    pub fn posts(&self) -> Vec<(u16, MessageId)> {
        self.shared.posts.lock().expect("no panic under the lock").clone()
    }

    /// Puts what was held back into every view.
    pub fn release(&self) {
        let held = std::mem::take(&mut *self.shared.held.lock().expect("no panic under the lock"));
        self.views().iter_mut().for_each(|view| view.cells.extend(held.iter().cloned()));
    }
}

impl Drop for WrongRelay {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    fn views(&self) -> MutexGuard<'_, Vec<View>> {
        self.views.lock().expect("no panic under the lock")
    }
}

#[derive(Clone)]
struct At {
    shared: Arc<Shared>,
    view: usize,
}

impl View {
    fn tree(&self) -> Tree {
        let mut tree = Tree::default();
        self.cells.iter().for_each(|cell| tree.push(MessageId::of(cell).into()));
        tree
    }

    fn checkpoint(&self, shared: &Shared) -> (String, Edge, Tree) {
        let key = &shared.key;
        let tree = self.tree();
        let edge = Edge::new(tree.size(), &tree).expect("it has all nodes");
        let keys = self.keys.or(self.shown).unwrap_or(shared.keys);
        let checkpoint = Checkpoint { size: edge.size(), root: edge.root(), keys };
        let note = match self.other_key {
            false => checkpoint.sign(key),
            true => {
                let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
                checkpoint.sign(&LogKey::generate(key.name(), rng))
            }
        };
        (note, edge, tree)
    }

    fn receipt(&self, index: usize, shared: &Shared) -> ProvenReceipt {
        let (checkpoint, edge, tree) = self.checkpoint(shared);
        let inclusion = InclusionProof::new(index as u64, &edge, &tree).expect("it has all nodes");
        let proof = SignedProof { index: index as u64, inclusion, checkpoint }.to_string();
        let message_id = MessageId::of(&self.cells[index]);
        let seq = index as u64 + 1;
        ProvenReceipt { receipt: PostReceipt { seq, message_id, received_at: 1 }, proof }
    }

    fn served(&self, index: usize) -> &[u8] {
        self.served.get(&index).unwrap_or(&self.cells[index])
    }
}

async fn info(State(at): State<At>) -> Response {
    let answer = http_client().get(format!("{}/v1/info", at.shared.real)).send().await;
    let mut info: RelayInfo = answer.expect("an answer").json().await.expect("a document");
    let view = {
        let mut views = at.shared.views();
        views[at.view].looks += 1;
        views[at.view].clone()
    };
    (info.oldest, info.head) = (1, view.cells.len() as u64);
    if let Some(change) = view.info {
        change(view.looks - 1, &mut info);
    }
    let chain = Chain::open(&info.statements, &info.log_key);
    at.shared.views()[at.view].shown = chain.ok().map(|chain| chain.newest().commitment());
    axum::Json(info).into_response()
}

async fn checkpoint(State(at): State<At>) -> String {
    at.shared.views()[at.view].checkpoint(&at.shared).0
}

async fn tile(State(at): State<At>, UrlPath(path): UrlPath<String>) -> Response {
    let view = at.shared.views()[at.view].clone();
    let Ok(tile) = format!("tile/{path}").parse::<Tile>() else {
        return StatusCode::NOT_FOUND.into_response();
    };
    match Tile::in_tree(tile.content, tile.index, view.cells.len() as u64) {
        Some(whole) if whole.width >= tile.width => {}
        _ => return StatusCode::NOT_FOUND.into_response(),
    }
    let places = tile.start()..tile.start() + u64::from(tile.width);
    match tile.content {
        Content::Hashes(level) => {
            let tree = view.tree();
            let node = |n| tree.node(level * TILE_HEIGHT, n).expect("it has all nodes");
            encode_hashes(&places.map(node).collect::<Vec<_>>()).into_response()
        }
        Content::Entries => {
            let mut bundle = Vec::new();
            places.for_each(|n| put_entry(&mut bundle, view.served(n as usize)));
            bundle.into_response()
        }
    }
}

async fn read(State(at): State<At>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let number = |name: &str| {
        let value = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
        value.parse::<usize>().ok()
    };
    let view = at.shared.views()[at.view].clone();
    let after = number("after").unwrap_or(0);
    if let Some(oldest) = view.oldest.filter(|oldest| (after as u64) < oldest - 1) {
        let mut problem = Problem::new(ProblemType::CursorGone, "they are gone");
        problem.oldest = Some(oldest);
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        return (StatusCode::GONE, kind, serde_json::to_vec(&problem).expect("plain data"))
            .into_response();
    }
    let end = number("limit").map_or(view.cells.len(), |limit| view.cells.len().min(after + limit));
    let frame = |n: usize| [&(n as u64 + 1).to_be_bytes()[..], view.served(n)].concat();
    (after..end).flat_map(frame).collect::<Vec<u8>>().into_response()
}

async fn post(
    State(at): State<At>,
    ConnectInfo(client): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    cell: Bytes,
) -> Response {
    let id = MessageId::of(&cell);
    let comes_first = {
        let mut posts = at.shared.posts.lock().expect("no panic under the lock");
        posts.push((client.port(), id));
        posts.iter().filter(|(_, posted)| *posted == id).count() == 1
    };
    let mut request = http_client().post(format!("{}/v1/messages", at.shared.real));
    for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
        if let Some(value) = headers.get(&name) {
            request = request.header(name.as_str(), value.as_bytes());
        }
    }
    let rule = at.shared.rule.lock().expect("no panic under the lock").clone();
    if rule == Rule::Drop {
        return StatusCode::NOT_FOUND.into_response();
    }
    if rule == Rule::RefuseFirst && comes_first {
        let problem = Problem::new(ProblemType::BadBinding, "try again some time");
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let body = serde_json::to_vec(&problem).expect("plain data");
        return (StatusCode::UNAUTHORIZED, kind, body).into_response();
    }
    let answer = request.body(cell.to_vec()).send().await.expect("an answer");
    if !answer.status().is_success() {
        let status = StatusCode::from_u16(answer.status().as_u16()).expect("a status");
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        return (status, kind, answer.bytes().await.expect("a body")).into_response();
    }
    let mut views = at.shared.views();
    let number = views.len();
    let everywhere = (0..number).collect::<Vec<_>>();
    let (into, times) = match &rule {
        Rule::Publish | Rule::RefuseFirst => (everywhere, 1),
        Rule::Twice => (everywhere, 2),
        Rule::OnlyTo(views) => (views.clone(), 1),
        Rule::Drop | Rule::OnlyAcknowledge | Rule::BadReceipt | Rule::HoldBack => (Vec::new(), 0),
    };
    for view in &into {
        (0..times).for_each(|_| views[*view].cells.push(cell.to_vec()));
    }
    if rule == Rule::HoldBack {
        at.shared.held.lock().expect("no panic under the lock").push(cell.to_vec());
        // Whoever sent it waits, gets nothing, and tries again later.
        return StatusCode::NOT_FOUND.into_response();
    }
    let mut view = views[at.view].clone();
    view.keys = view.receipt_keys.or(view.keys);
    if !into.contains(&at.view) {
        view.cells.push(cell.to_vec());
    }
    let mut receipt = view.receipt(view.cells.len() - 1, &at.shared);
    if rule == Rule::BadReceipt {
        receipt.proof = "trust me".to_owned();
    }
    (StatusCode::CREATED, axum::Json(receipt)).into_response()
}
