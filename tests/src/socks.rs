//! A SOCKS5 proxy that plays Tor's part: it alone knows where names lead, and it records the
//! credentials of each connection, which Tor takes as the wish for a circuit of its own.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// One connection that was asked for.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The name that was asked for.
    pub host: String,
    /// User and password.
    pub credentials: (Vec<u8>, Vec<u8>),
    /// What the client has sent over it so far.
    sent: Arc<Mutex<Vec<u8>>>,
}

impl Connection {
    /// What the client has sent over it, as text.
    pub fn sent(&self) -> String {
        let sent = self.sent.lock().expect("no panic under the lock");
        String::from_utf8_lossy(&sent).into_owned()
    }
}

/// A running proxy. Dropping it ends it.
pub struct SocksProxy {
    url: String,
    connections: Arc<Mutex<Vec<Connection>>>,
    task: AbortHandle,
}

impl SocksProxy {
    /// A proxy that knows these names, each with its `ADDR:PORT`.
    pub async fn start<const N: usize>(names: [(&str, &str); N]) -> Self {
        let names: HashMap<String, String> = names
            .into_iter()
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .collect();
        let (names, connections) = (Arc::new(names), Arc::<Mutex<Vec<Connection>>>::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("socks5h://{}", listener.local_addr().expect("it is bound"));
        let recorded = connections.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(pass(stream, names.clone(), recorded.clone()));
            }
        });
        Self { url, connections, task: task.abort_handle() }
    }

    /// `socks5h://ADDR:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The connections since the last call.
    pub fn take_connections(&self) -> Vec<Connection> {
        std::mem::take(&mut *self.connections.lock().expect("no panic under the lock"))
    }
}

impl Drop for SocksProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// RFC 1928 with RFC 1929: only user and password, only names, only CONNECT.
async fn pass(
    mut client: TcpStream,
    names: Arc<HashMap<String, String>>,
    connections: Arc<Mutex<Vec<Connection>>>,
) -> io::Result<()> {
    assert_eq!(client.read_u8().await?, 5);
    let methods = sized(&mut client).await?;
    assert!(methods.contains(&2), "it must offer user and password");
    client.write_all(&[5, 2]).await?;
    assert_eq!(client.read_u8().await?, 1);
    let credentials = (sized(&mut client).await?, sized(&mut client).await?);
    client.write_all(&[1, 0]).await?;
    let mut head = [0; 4];
    client.read_exact(&mut head).await?;
    assert_eq!(head, [5, 1, 0, 3], "it must leave the name to the proxy");
    let host = String::from_utf8(sized(&mut client).await?).expect("a name");
    client.read_u16().await?;
    let mut service = TcpStream::connect(&names[&host]).await?;
    let sent = Arc::<Mutex<Vec<u8>>>::default();
    let connection = Connection { host, credentials, sent: sent.clone() };
    connections.lock().expect("no panic under the lock").push(connection);
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_service, mut to_service) = service.split();
    let up = async {
        let mut bytes = vec![0; 65_536];
        loop {
            match from_client.read(&mut bytes).await? {
                0 => return to_service.shutdown().await,
                n => {
                    sent.lock().expect("no panic under the lock").extend(&bytes[..n]);
                    to_service.write_all(&bytes[..n]).await?;
                }
            }
        }
    };
    let down = tokio::io::copy(&mut from_service, &mut to_client);
    tokio::try_join!(up, down).map(drop)
}

async fn sized(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
