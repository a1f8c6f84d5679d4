//! What a real nginx does with generations that it refuses.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use code_server_multi::host::nginx::{NginxError, Published};

use super::edge::Edge;

fn refused(result: Result<Published, NginxError>) -> Vec<String> {
    match result {
        Err(NginxError::Refused { culprits, .. }) => culprits.into_iter().map(|culprit| culprit.file).collect(),
        other => panic!("{other:?}"),
    }
}

async fn answers(edge: &Edge, host: &str) -> bool {
    // Without a session a workspace's own host asks the gateway, the catch-all answers 404.
    edge.https(host, "/", &[]).await.status == 401
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_is_named_and_the_others_are_served() {
    let edge = Edge::start().await;
    edge.publisher
        .publish(&edge.generation(&[("dan", None)]))
        .await
        .unwrap();

    // nginx -t can't see that a port is taken: the master process finds out, after the job is done.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, edge.tunnels[0])).unwrap();
    let wanted = edge.generation(&[("alice", None), ("dan", Some(edge.tunnels[0])), ("eve", None)]);
    assert_eq!(refused(edge.publisher.publish(&wanted).await), ["dan.conf"]);
    for host in ["alice", "dan", "eve"] {
        assert!(answers(&edge, host).await, "{host}");
    }
    drop(taken);
    edge.publisher.publish(&wanted).await.unwrap();
    assert_eq!(edge.tunnel("/", &[]).await.status, 401);

    // A second default server on an address is refused by nginx -t.
    let admin = edge.dir.path().join("nginx.conf");
    let text = std::fs::read_to_string(&admin).unwrap();
    let port = edge.tunnels[1];
    let site = format!("server {{ listen 127.0.0.1:{port} default_server; return 200; }} }}");
    let (head, _) = text.rsplit_once('}').unwrap();
    std::fs::write(&admin, head.to_owned() + &site).unwrap();
    let wanted = edge.generation(&[("alice", Some(port)), ("dan", None)]);
    assert_eq!(refused(edge.publisher.publish(&wanted).await), ["alice.conf"]);
    // alice keeps what she had; eve was removed, and no old worker serves her any more.
    assert_eq!(
        [answers(&edge, "alice").await, answers(&edge, "eve").await],
        [true, false]
    );

    // Not ours: nginx refuses its own part.
    std::fs::write(&admin, head.to_owned() + "nonsense; }").unwrap();
    let before = edge.probe().await.body;
    let result = edge.publisher.publish(&edge.generation(&[("dan", None)])).await;
    assert!(matches!(result, Err(NginxError::Foreign { .. })), "{result:?}");
    assert_eq!(edge.probe().await.body, before);
    assert!(answers(&edge, "alice").await);

    std::fs::write(&admin, text).unwrap();
    edge.publisher.publish(&wanted).await.unwrap();
    let link = std::fs::read_link(edge.dir.path().join("snippets/current")).unwrap();
    assert_eq!(link, Path::new("generations").join(wanted.digest()));
    edge.stop().await;
}
