//! `rdbadm promoter` on both nodes of a pair: one of them has the file system and its service, whatever happens to that one.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rdb_tests::net::Cut;
use rdb_tests::pair::Plan;
use rdb_tests::programs::run_tool;
use rdb_tests::scratch::release_below;
use rdb_tests::{Conf, Node, Pair, wait_until};

/// Mounts the device of the front end, and a service that is a line in a file on it. What it does is written down.
const SERVICES: &str = r#"here=$1; what=$2; place=$here/mnt-$RDB_NODE
echo "$what" >> $here/$RDB_NODE.did
case $what in
mount)
    device=$(losetup -n -l -O NAME,BACK-FILE | grep -F "$RDB_RUN_DIR/" | cut -d ' ' -f 1)
    mkdir -p $place && mount "$device" $place ;;
umount) ! mountpoint -q $place || umount $place || umount -l $place ;;
start) [ ! -e $here/broken-$RDB_NODE ] && echo $RDB_NODE >> $place/served && sync -f $place/served ;;
stop) exit 0 ;;
esac
"#;

/// Fences where it is told to be able to.
const FENCE: &str = r#"here=$1
echo called >> $here/$RDB_NODE.fences
[ -e $here/can-fence-$RDB_NODE ] || exit 1
exit 7
"#;

/// A promoter at work.
struct Promoter {
    child: Child,
    log: PathBuf,
}

impl Promoter {
    fn start(pair: &Pair, node: &Node) -> Result<Promoter> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(log(pair, node))?;
        let mut command = node.command("rdbadm", 0)?;
        command
            .args(["promoter", "r0", "--file"])
            .arg(pair.scratch.join("promoter.toml"));
        let child = command.stdout(log.try_clone()?).stderr(log).spawn()?;
        let log = self::log(pair, node);
        Ok(Promoter { child, log })
    }

    fn ends(&mut self, signal: &str) -> Result<ExitStatus> {
        run_tool(10, "kill", &[signal, &self.child.id().to_string()])?;
        let mut status = None;
        wait_until("the promoter's end", Duration::from_secs(60), || {
            status = self.child.try_wait()?;
            Ok(status.is_some())
        })
        .with_context(|| std::fs::read_to_string(&self.log).unwrap_or_default())?;
        status.context("it has ended")
    }
}

impl Drop for Promoter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log(pair: &Pair, node: &Node) -> PathBuf {
    pair.scratch.join(format!("{}.promoter.log", node.name))
}

fn did(pair: &Pair, node: &Node) -> String {
    let text = std::fs::read_to_string(pair.scratch.join(format!("{}.did", node.name)));
    text.unwrap_or_default().replace('\n', " ")
}

fn serves(pair: &Pair, node: &Node) -> bool {
    let served = std::fs::read_to_string(pair.scratch.join(format!("mnt-{}/served", node.name)));
    served.is_ok_and(|text| text.lines().last() == Some(&node.name))
}

/// Waits until this node has the service, and nobody else.
fn await_service(pair: &Pair, node: &Node) -> Result<()> {
    let all = || {
        [&pair.alice, &pair.bob]
            .map(|node| std::fs::read_to_string(log(pair, node)).unwrap_or_default())
    };
    wait_until(
        &format!("the service on {}", node.name),
        Duration::from_secs(40),
        || {
            let other = if node.name == "alice" {
                &pair.bob
            } else {
                &pair.alice
            };
            let of_other = pair.scratch.join(format!("mnt-{}", other.name));
            let is_other_free = !std::fs::read_to_string("/proc/self/mounts")?
                .contains(&format!("{} ", of_other.display()));
            Ok(serves(pair, node) && is_other_free)
        },
    )
    .with_context(|| all().join("\n"))
}

fn said(pair: &Pair, node: &Node, words: &str) -> Result<()> {
    let status = || {
        let file = pair.scratch.join("promoter.toml").display().to_string();
        node.try_adm(&["promoter", "--status", "r0", "--file", &file])
    };
    wait_until(words, Duration::from_secs(20), || {
        Ok(status()?.stdout.contains(words))
    })
    .with_context(|| {
        format!(
            "{:?}\n{}",
            status(),
            std::fs::read_to_string(log(pair, node)).unwrap_or_default()
        )
    })
}

fn order(pair: &Pair, node: &Node, order: &str) -> Result<String> {
    let file = pair.scratch.join("promoter.toml").display().to_string();
    node.adm(&["promoter", order, "r0", "--file", &file])
}

/// A pair in sync, both Secondary, with a file of the promoters'; `more`: further lines of it.
fn prepared(name: &str, plan: Plan, services: &str, more: &str) -> Result<Pair> {
    let mut pair = Pair::prepare(name, plan)?;
    let here = pair.scratch.path().display().to_string();
    std::fs::write(pair.scratch.join("services.sh"), SERVICES)?;
    std::fs::write(pair.scratch.join("fence.sh"), FENCE)?;
    let services = services.replace("HERE", &here);
    let file = format!(
        "[resources.r0]\nstart = [{services}]\nmonitor-interval = 1\npeer-wait = 5\npeer-lost-wait = 1\ndaemon-wait = 1\n{more}\n"
    );
    std::fs::write(pair.scratch.join("promoter.toml"), file)?;
    if !pair.plan.conf.disk.is_empty() {
        pair.plan.conf.resource =
            format!("handlers {{ fence-peer \"/bin/sh {here}/fence.sh {here}\"; }}");
        pair.write_conf()?;
    }
    pair.begin()?;
    pair.sync_from(&pair.alice)?;
    Ok(pair)
}

const MOUNT_AND_SERVICE: &str = r#"
    { name = "the file system", command = "sh HERE/services.sh HERE mount", stop = "sh HERE/services.sh HERE umount", check = "mountpoint -q HERE/mnt-$RDB_NODE" },
    { name = "the service", command = "sh HERE/services.sh HERE start", stop = "sh HERE/services.sh HERE stop", check = "test ! -e HERE/broken-$RDB_NODE" },
"#;

/// A pair with a promoter on each node.
struct Story {
    alice: Promoter,
    bob: Promoter,
    // It goes last: the promoters use it.
    pair: Pair,
}

impl Story {
    fn begin() -> Result<Story> {
        let plan = Plan {
            conf: Conf {
                disk: "fencing resource-and-stonith;".into(),
                ..Conf::default()
            },
            cable: true,
            frontend: "fuse",
            ..Plan::default()
        };
        let more = "preferred-nodes = [\"alice\", \"bob\"]";
        let pair = prepared("promoter", plan, MOUNT_AND_SERVICE, more)?;
        let device = pair.alice.device(0)?.display().to_string();
        run_tool(60, "mkfs.ext4", &["-q", "-F", &device])?;
        pair.alice.adm(&["secondary", "r0"])?;
        let alice = Promoter::start(&pair, &pair.alice)?;
        let bob = Promoter::start(&pair, &pair.bob)?;
        await_service(&pair, &pair.alice)?;
        said(&pair, &pair.alice, ALL_RUNS)?;
        said(&pair, &pair.bob, "waits: the peer is Primary")?;
        Ok(Story { pair, alice, bob })
    }

    /// A promoter that dies leaves all as it is, and the next one goes on with it. A resource has one at a time.
    fn a_promoter_dies(&mut self) -> Result<()> {
        let pair = &self.pair;
        let file = pair.scratch.join("promoter.toml").display().to_string();
        let second = pair.bob.try_adm(&["promoter", "r0", "--file", &file])?;
        let refusal = second.fails_with(20)?;
        ensure!(
            refusal.contains("another promoter has this resource"),
            "{refusal}"
        );
        self.alice.ends("-KILL")?;
        self.alice = Promoter::start(pair, &pair.alice)?;
        said(pair, &pair.alice, ALL_RUNS)?;
        ensure!(
            did(pair, &pair.alice) == "mount start ",
            "{}",
            did(pair, &pair.alice)
        );
        Ok(())
    }

    /// To the other node, kept from coming back; and back when its service fails there and does not start there again.
    fn it_is_given_away(&mut self) -> Result<()> {
        let pair = &self.pair;
        order(pair, &pair.alice, "--evict")?;
        await_service(pair, &pair.bob)?;
        said(pair, &pair.alice, "evicted")?;
        let both_ways = "mount start stop umount ";
        ensure!(
            did(pair, &pair.alice) == both_ways,
            "{}",
            did(pair, &pair.alice)
        );
        order(pair, &pair.alice, "--unevict")?;
        std::fs::write(pair.scratch.join("broken-bob"), "")?;
        await_service(pair, &pair.alice)?;
        std::fs::remove_file(pair.scratch.join("broken-bob"))?;
        ensure!(
            did(pair, &pair.bob) == both_ways,
            "{}",
            did(pair, &pair.bob)
        );
        said(pair, &pair.alice, ALL_RUNS)
    }

    /// The other one has the node fenced, and goes on. It comes back, has all data again, and is the preferred one.
    fn its_node_dies(&mut self) -> Result<()> {
        let pair = &mut self.pair;
        std::fs::write(pair.scratch.join("can-fence-bob"), "")?;
        pair.alice.kill()?;
        self.alice.ends("-KILL")?;
        let place = pair.scratch.join("mnt-alice").display().to_string();
        run_tool(30, "umount", &["-l", &place])?;
        release_below(&pair.alice.run_dir);
        let record = pair.alice.run_dir.join("promoter/r0.json");
        std::fs::remove_file(&record).with_context(|| record.display().to_string())?;
        await_service(pair, &pair.bob)?;
        ensure!(
            pair.scratch.join("bob.fences").exists(),
            "it was not fenced"
        );
        let served = std::fs::read_to_string(pair.scratch.join("mnt-bob/served"))?;
        ensure!(served == "alice\nbob\nalice\nbob\n", "{served}");

        std::fs::remove_file(pair.scratch.join("can-fence-bob"))?;
        pair.alice.start()?;
        pair.alice.adm(&["up", "r0"])?;
        pair.settle(60)?;
        self.alice = Promoter::start(pair, &pair.alice)?;
        await_service(pair, &pair.alice)
    }

    /// Who can not fence the other one does not go on, and who can does.
    fn the_link_is_cut(&mut self) -> Result<()> {
        let pair = &self.pair;
        std::fs::write(pair.scratch.join("can-fence-alice"), "")?;
        let cable = pair.cable.as_ref().context("a cable")?;
        cable.cut(Cut::Silent)?;
        wait_until("bob's attempt", Duration::from_secs(30), || {
            let log = std::fs::read_to_string(log(pair, &pair.bob))?;
            Ok(log.contains("promotes: failed"))
        })?;
        ensure!(serves(pair, &pair.alice) && pair.bob.volume(0)?.ro.starts_with("Secondary"));
        said(pair, &pair.alice, ALL_RUNS)?;
        cable.heal()?;
        pair.settle(60)
    }

    /// Told to end a promoter takes all down, and the other node has it.
    fn they_are_told_to_end(mut self) -> Result<()> {
        let pair = &mut self.pair;
        ensure!(self.alice.ends("-TERM")?.success(), "it has left something");
        await_service(pair, &pair.bob)?;
        said(pair, &pair.bob, ALL_RUNS)?;
        ensure!(self.bob.ends("-TERM")?.success(), "it has left something");
        ensure!(pair.bob.volume(0)?.ro == "Secondary/Secondary");
        pair.are_well()
    }
}

const ALL_RUNS: &str = "all runs here; 2 of 2 services started; process";

#[test]
fn a_file_system_and_its_service_are_on_one_node_whatever_happens_to_it() -> Result<()> {
    let mut story = Story::begin()?;
    story.a_promoter_dies()?;
    story.it_is_given_away()?;
    story.its_node_dies()?;
    story.the_link_is_cut()?;
    story.they_are_told_to_end()
}

/// A start that outlives its promoter would come up on a node that has given the role up since; and what did not stop keeps the device.
#[test]
fn what_a_dead_promoter_was_about_is_ended_and_what_did_not_stop_is_stopped_again() -> Result<()> {
    let service = r#"{ name = "slow", command = "echo begin >> HERE/$RDB_NODE.did; sleep 3; echo started >> HERE/$RDB_NODE.did",
        stop = "echo stop >> HERE/$RDB_NODE.did; test -e HERE/may-stop" }"#;
    let service = service.replace('\n', " ");
    let pair = prepared("promoter-stuck", Plan::default(), &service, "")?;
    pair.alice.adm(&["secondary", "r0"])?;
    let mut alice = Promoter::start(&pair, &pair.alice)?;
    wait_until("the start", Duration::from_secs(30), || {
        Ok(did(&pair, &pair.alice) == "begin ")
    })?;
    alice.ends("-KILL")?;
    let mut alice = Promoter::start(&pair, &pair.alice)?;
    said(&pair, &pair.alice, "all runs here; 1 of 1 services started")?;
    let all = did(&pair, &pair.alice);
    ensure!(all == "begin begin started ", "{all}");

    let user = pair.alice.nbd(0)?;
    order(&pair, &pair.alice, "--evict")?;
    let stops = || did(&pair, &pair.alice).matches("stop").count();
    wait_until(
        "a second stop",
        Duration::from_secs(30),
        || Ok(stops() >= 2),
    )?;
    // Nor does the next promoter forget it.
    alice.ends("-KILL")?;
    let before = stops();
    let mut alice = Promoter::start(&pair, &pair.alice)?;
    wait_until("a stop by the next one", Duration::from_secs(30), || {
        Ok(stops() > before)
    })?;
    std::fs::write(pair.scratch.join("may-stop"), "")?;
    drop(user);
    wait_until("the role to be given up", Duration::from_secs(30), || {
        Ok(pair.alice.volume(0)?.ro.starts_with("Secondary"))
    })?;
    said(&pair, &pair.alice, "evicted")?;
    ensure!(alice.ends("-TERM")?.success());
    Ok(())
}

/// Of a start that is broken off nothing may be left that comes up later, on a node that has given the role up; not of a program either that
/// does not listen to signals. And a stop that hangs holds nothing up for longer than it may.
#[test]
fn a_promoter_told_to_end_amid_a_start_leaves_nothing_of_it_and_a_hung_stop_has_a_limit()
-> Result<()> {
    let service = r#"{ name = "deaf", stop = "echo stop >> HERE/$RDB_NODE.did; (trap '' TERM; sleep 1000; true) & wait",
        command = "echo begin >> HERE/$RDB_NODE.did; (trap '' TERM; sleep 8; echo late >> HERE/$RDB_NODE.did) & wait" }"#;
    let service = service.replace('\n', " ");
    let mut pair = prepared(
        "promoter-deaf",
        Plan::default(),
        &service,
        "stop-timeout = 1",
    )?;
    pair.alice.adm(&["secondary", "r0"])?;
    let mut alice = Promoter::start(&pair, &pair.alice)?;
    wait_until("the start", Duration::from_secs(30), || {
        Ok(did(&pair, &pair.alice) == "begin ")
    })?;
    let begun = std::time::Instant::now();
    ensure!(alice.ends("-TERM")?.success(), "it has left something");
    ensure!(pair.alice.volume(0)?.ro == "Secondary/Secondary");
    // It would have come up by now.
    std::thread::sleep(Duration::from_secs(10).saturating_sub(begun.elapsed()));
    let all = did(&pair, &pair.alice);
    ensure!(all == "begin stop ", "{all}");
    let log = std::fs::read_to_string(&alice.log)?;
    ensure!(
        log.contains("stops deaf: failed: it took too long"),
        "{log}"
    );
    pair.are_well()
}

/// A promotion that waits for a handler is broken off, and comes about no later either.
#[test]
fn a_promoter_told_to_end_amid_a_promotion_leaves_no_primary() -> Result<()> {
    let plan = Plan {
        conf: Conf {
            disk: "fencing resource-and-stonith;".into(),
            ..Conf::default()
        },
        ..Plan::default()
    };
    let service = r#"{ command = "echo start >> HERE/$RDB_NODE.did" }"#;
    let mut pair = prepared("promoter-hasty", plan, service, "")?;
    let slow = "here=$1\necho called >> $here/$RDB_NODE.fences\nsleep 4\nexit 7\n";
    std::fs::write(pair.scratch.join("fence.sh"), slow)?;
    pair.alice.adm(&["secondary", "r0"])?;
    pair.bob.kill()?;
    let mut alice = Promoter::start(&pair, &pair.alice)?;
    let fences = pair.scratch.join("alice.fences");
    wait_until("the handler", Duration::from_secs(30), || {
        Ok(fences.exists())
    })
    .with_context(|| std::fs::read_to_string(&alice.log).unwrap_or_default())?;
    ensure!(alice.ends("-TERM")?.success(), "it has left something");
    std::thread::sleep(Duration::from_secs(5));
    let role = pair.alice.volume(0)?.ro;
    ensure!(role == "Secondary/Unknown", "{role}");
    ensure!(did(&pair, &pair.alice).is_empty());
    pair.alice.is_well()
}

/// Without fencing nobody knows whether a peer that is gone is Primary.
#[test]
fn without_fencing_a_node_goes_on_alone_only_where_split_brain_is_accepted() -> Result<()> {
    let service = r#"{ command = "echo start >> HERE/$RDB_NODE.did" }"#;
    let mut pair = prepared("promoter-alone", Plan::default(), service, "")?;
    let file = pair.scratch.join("promoter.toml").display().to_string();
    let checked = pair
        .bob
        .adm(&["promoter", "--check-config", "--file", &file])?;
    ensure!(
        checked == "r0: 1 services; no fencing: without its peer it is never promoted\n",
        "{checked}"
    );
    let dry = pair.bob.adm(&["-d", "promoter", "r0", "--file", &file])?;
    ensure!(dry == "r0: waits: the peer is Primary\n", "{dry}");
    let mut bob = Promoter::start(&pair, &pair.bob)?;
    said(&pair, &pair.bob, "waits: the peer is Primary")?;
    pair.alice.kill()?;
    said(
        &pair,
        &pair.bob,
        "waits: the peer is not connected and may be Primary, for no fencing is configured",
    )?;
    ensure!(bob.ends("-TERM")?.success());
    ensure!(did(&pair, &pair.bob).is_empty() && pair.bob.volume(0)?.ro.starts_with("Secondary"));
    let stopped = pair
        .bob
        .try_adm(&["promoter", "--status", "--file", &file])?
        .fails_with(3)?;
    ensure!(stopped.contains("no promoter runs here"), "{stopped}");

    let text = std::fs::read_to_string(&file)?;
    std::fs::write(
        &file,
        format!("{text}without-fencing = \"split brain accepted\"\n"),
    )?;
    let _bob = Promoter::start(&pair, &pair.bob)?;
    said(&pair, &pair.bob, "all runs here; 1 of 1 services started")?;
    ensure!(did(&pair, &pair.bob) == "start ");
    std::fs::write(&file, "[resources.r0]\nstart = [\"mount /srv\"]\n")?;
    let mistake = pair
        .bob
        .try_adm(&["promoter", "--check-config", "--file", &file])?
        .fails_with(10)?;
    ensure!(mistake.contains("'mount /srv' is no unit"), "{mistake}");
    pair.bob.is_well()
}

/// Nobody is preferred, and both begin in the same moment: the daemons let one of them be Primary, and the other one waits.
#[test]
fn of_two_that_begin_at_once_one_has_the_resource() -> Result<()> {
    let service = r#"{ command = "echo start >> HERE/$RDB_NODE.did", stop = "echo stop >> HERE/$RDB_NODE.did" }"#;
    let mut pair = prepared("promoter-race", Plan::default(), service, "")?;
    pair.alice.adm(&["secondary", "r0"])?;
    for _ in 0..3 {
        let mut both = [
            Promoter::start(&pair, &pair.alice)?,
            Promoter::start(&pair, &pair.bob)?,
        ];
        let mut roles = String::new();
        wait_until("a Primary", Duration::from_secs(30), || {
            roles = pair.alice.volume(0)?.ro;
            Ok(roles.contains("Primary"))
        })?;
        let (first, second) = match roles.starts_with("Primary") {
            true => (&pair.alice, &pair.bob),
            false => (&pair.bob, &pair.alice),
        };
        said(&pair, first, "all runs here")?;
        said(&pair, second, "waits: the peer is Primary")?;
        ensure!(!did(&pair, second).ends_with("start "), "both have it");
        // Who has nothing goes first, so that nobody takes over.
        if second.name == "alice" {
            both.reverse();
        }
        ensure!(both[1].ends("-TERM")?.success() && both[0].ends("-TERM")?.success());
        ensure!(pair.alice.volume(0)?.ro == "Secondary/Secondary");
        ensure!(did(&pair, first).ends_with("start stop "));
    }
    pair.are_well()
}
