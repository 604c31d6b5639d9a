//! Without a disk of its own a primary works through its peer.

use anyhow::{Result, ensure};
use rdb_tests::pair::Plan;
use rdb_tests::writer::{Load, Model, Pace};
use rdb_tests::{Conf, Pair};

#[test]
fn detach_on_the_primary_work_through_the_peer_attach_and_resync() -> Result<()> {
    let mut pair = Pair::synced("diskless", Plan::default())?;
    let model = Model::new(0, 2048);
    let load = Load::start(&pair.alice.nbd_socket(), "r0/0", &model, 3, Pace::default())?;
    load.progress(100)?;
    pair.alice.adm(&["detach", "r0"])?;
    let volume = pair
        .alice
        .await_volume("Diskless", 20, |v| v.ds == "Diskless/UpToDate")?;
    ensure!(volume.cs == "Connected", "{volume:?}");
    let written_locally = volume.dw;
    // Writes and reads go on, through bob.
    load.progress(200)?;
    load.model().mark();
    load.progress(100)?;
    ensure!(
        pair.alice.volume(0)?.dw == written_locally,
        "a diskless node wrote to a disk"
    );
    load.stop()?;
    let mut checked = model
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    checked.verify(&mut pair.alice.nbd(0)?)?;
    drop(checked);

    pair.alice.adm(&["attach", "r0"])?;
    pair.settle(60)?;
    ensure!(
        pair.alice
            .resyncs_kib()
            .last()
            .is_some_and(|kib| *kib <= 2048 * 4),
        "more than the range written was synced: {:?}",
        pair.alice.resyncs_kib()
    );
    pair.are_well()?;
    pair.disks_equal()
}

#[test]
fn a_diskless_primary_without_peer_fails_io_and_recovers() -> Result<()> {
    let conf = Conf {
        resource: "options { on-no-data-accessible io-error; }".into(),
        ..Conf::default()
    };
    let mut pair = Pair::synced(
        "nodata",
        Plan {
            conf,
            ..Plan::default()
        },
    )?;
    pair.alice.nbd(0)?.write(0, &[1; 4096])?;
    // The last copy is not given away.
    pair.bob.adm(&["disconnect", "r0"])?;
    pair.alice
        .await_volume("the loss of bob", 20, |volume| volume.cs == "WFConnection")?;
    let refusal = pair.alice.try_adm(&["detach", "r0"])?;
    ensure!(refusal.code == 17 || refusal.code == 11, "{refusal:?}");
    pair.bob.adm(&["connect", "r0"])?;
    pair.settle(30)?;
    pair.alice.adm(&["detach", "r0"])?;
    pair.alice
        .await_volume("Diskless", 20, |v| v.ds == "Diskless/UpToDate")?;
    let mut client = pair.alice.nbd(0)?;
    ensure!(
        client.read(0, 4096)? == [1; 4096],
        "the read comes from bob"
    );
    // Now the peer goes too: errors, no hang, no lie.
    pair.bob.kill()?;
    pair.alice
        .await_volume("the loss of bob", 20, |volume| volume.cs == "WFConnection")?;
    let read = client.read(0, 4096);
    ensure!(read.is_err(), "data out of nowhere");
    drop(client);
    pair.bob.start()?;
    pair.bob.adm(&["up", "r0"])?;
    pair.alice
        .await_volume("bob again", 30, |v| v.cs == "Connected")?;
    ensure!(
        pair.alice.nbd(0)?.read(0, 4096)? == [1; 4096],
        "after bob is back"
    );
    pair.are_well()
}
