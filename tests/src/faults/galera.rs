//! A Galera cluster of MariaDB servers on this machine: what is committed on one node is on all of them.

use std::path::Path;

use crate::backend::Backend;
use crate::faults::programs::{folder, free_port, program};
use crate::faults::server::Server;
use crate::recorder::wait_until;

/// Where Debian puts the replication.
const PROVIDER: &str = "/usr/lib/galera/libgalera_smm.so";

/// Running nodes that have all of one another's data.
///
/// # Errors
/// What is missing on this machine.
///
/// # Panics
/// When everything is there and they do not come together.
pub fn cluster(nodes: usize) -> Result<Vec<Server>, String> {
    if !Path::new(PROVIDER).exists() {
        return Err(format!("Galera is not installed: there is no {PROVIDER}"));
    }
    program("rsync")?;
    // One port above that of the group is for incremental transfers.
    let ports: Vec<u16> = (0..nodes).map(|_| free_port()).collect();
    let members: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut servers: Vec<Server> = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let options = options(at, *port, &members.join(","));
        let server = if at == 0 {
            let first: Vec<&str> = options.iter().map(String::as_str).chain(["--wsrep-new-cluster"]).collect();
            Server::with(Backend::Mysql, &first)?
        } else {
            let kept = folder()?;
            let place = kept.path().to_owned();
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let mut server = Server::unborn(Backend::Mysql, &place, Some(kept), &options)?;
            // Empty: it gets everything from another node.
            std::fs::create_dir(server.data()).map_err(|error| error.to_string())?;
            server.own(&server.data())?;
            server.start();
            server
        };
        servers.push(server);
        wait_until("the nodes to come together", || servers.iter().all(|server| members_of(server) == at + 1));
    }
    Ok(servers)
}

/// How many nodes this one sees, itself among them.
pub fn members_of(server: &Server) -> usize {
    let size = "SELECT CAST(variable_value AS SIGNED) AS value FROM information_schema.global_status \
                WHERE variable_name = 'WSREP_CLUSTER_SIZE'";
    usize::try_from(server.number(size)).expect("a size")
}

fn options(at: usize, port: u16, members: &str) -> Vec<String> {
    let here = "127.0.0.1";
    vec![
        "--wsrep-on=ON".to_owned(),
        format!("--wsrep-provider={PROVIDER}"),
        "--wsrep-cluster-name=consistency_test".to_owned(),
        format!("--wsrep-cluster-address=gcomm://{members}"),
        format!("--wsrep-node-name=node{at}"),
        format!("--wsrep-node-address={here}"),
        format!(
            "--wsrep-provider-options=base_port={port};gmcast.listen_addr=tcp://{here}:{port};\
             ist.recv_addr={here}:{};gcache.size=16M;evs.keepalive_period=PT0.5S;evs.suspect_timeout=PT2S;evs.inactive_timeout=PT4S;\
             evs.inactive_check_period=PT0.5S",
            port + 1
        ),
        "--wsrep-sst-method=rsync".to_owned(),
        format!("--wsrep-sst-receive-address={here}:{}", free_port()),
        // A row committed on one node is there for a statement that comes to another one right after.
        "--wsrep-sync-wait=7".to_owned(),
        "--binlog-format=ROW".to_owned(),
        "--innodb-autoinc-lock-mode=2".to_owned(),
    ]
}
