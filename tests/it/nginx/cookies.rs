//! The cookies that workspaces get, of those that a browser sends: none of ours, at a host and through a tunnel.

use super::edge::Edge;

pub async fn at_a_host(edge: &Edge) {
    let cases = [
        ("__Host-csm=good", None),
        ("__Host-csm=good; a=1", Some("a=1")),
        ("a=1; __Host-csm=good", Some("a=1")),
        ("a=1; __Host-csm=good; b=2", Some("a=1; b=2")),
        ("a=1;__Host-csm=good;b=2", Some("a=1;b=2")),
        ("__Host-csm=good; __Host-csm=good", None),
        (
            "a=1; __Host-csm=good; b=2; __Host-csm=other; c=3",
            Some("a=1; b=2; c=3"),
        ),
        (
            "__Host-csm--0123456789abcdef=x; a=1; __Host-csm--device-0123456789abcdef=y; __Host-csm=good",
            Some("a=1"),
        ),
        (
            "a=1; __Host-csm =x; __Host-csm\t=x; __host-CSM=x; __Host-csm=good; b=2",
            Some("a=1; b=2"),
        ),
        ("a=1;;; __Host-csm=good;; ;__Host-csm = x;", Some("a=1;")),
        (
            "a=1; __Host-csm=good; __Host-csm-2=x; __Host-csm-3=x; __Host-csm-4=x; __Host-csm-5=x",
            None,
        ),
        (
            "x__Host-csmx=1; __Host-csm=good; csm-dan=kept",
            Some("x__Host-csmx=1; csm-dan=kept"),
        ),
    ];
    for (sent, seen) in cases {
        for http in ["--http1.1", "--http2"] {
            let reply = edge
                .https("dan", "/echo", &["-H", &format!("Cookie: {sent}"), http])
                .await;
            assert_eq!(reply.status, 200, "{sent}");
            assert_eq!(reply.seen("cookie").as_deref(), seen, "{sent}");
        }
    }
    let reply = edge
        .https(
            "dan",
            "/echo",
            &["-H", "Cookie: a=1", "-H", "Cookie: __Host-csm=good", "--http1.1"],
        )
        .await;
    assert_eq!((reply.status, reply.seen("cookie").as_deref()), (200, Some("a=1")));
}

pub async fn through_a_tunnel(edge: &Edge) {
    let signed_in = ["-H", "Cookie: csm-alice=s1; csm-dan=good; a=1; csm-old=s2"];
    let reply = edge.tunnel("/echo", &signed_in).await;
    assert_eq!(reply.status, 200);
    let host = format!("localhost:{}", edge.tunnels[0]);
    assert_eq!(reply.seen("host"), Some(host.clone()));
    assert_eq!(reply.seen("cookie").as_deref(), Some("a=1"));
    // Two tunnels are configured, so six are cut; a seventh drops the cookies altogether.
    let more = "csm-1=x; csm-2=x; csm-3=x; csm-4=x; csm-5=x";
    for (more, seen) in [(more.to_owned(), Some("a=1")), (format!("{more}; csm-6=x"), None)] {
        let reply = edge
            .tunnel("/echo", &["-H", &format!("Cookie: {more}; csm-dan=good; a=1")])
            .await;
        assert_eq!(reply.seen("cookie").as_deref(), seen, "{more}");
    }

    let reply = edge.tunnel("/", &[]).await;
    assert_eq!((reply.status, reply.seen("x-csm-tunnel").as_deref()), (401, Some("1")));
    assert_eq!(reply.seen("x-csm-origin"), Some(format!("http://{host}")));
    for host in ["evil.example", "dan.code.example.test", "localhost.evil.example", ""] {
        let reply = edge
            .tunnel("/", &[&signed_in[..], &["-H", &format!("Host: {host}")]].concat())
            .await;
        assert!(
            reply.status == 421 || host.is_empty() && reply.status == 400,
            "{host}: {reply:?}"
        );
    }
    let reply = edge.tunnel("/cookies", &["-H", "Cookie: csm-dan=good"]).await;
    let own: Vec<&str> = reply
        .all("set-cookie")
        .into_iter()
        .filter(|cookie| cookie.starts_with("csm-"))
        .collect();
    assert_eq!(own, ["csm-dan=evil; Path=/; SameSite=None"]);
}
