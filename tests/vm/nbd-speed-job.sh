# Runs in the guest: the front end of the kernel's NBD client with one connection and with two, in turn.
disk_size=160M
. /usr/local/bin/pair-lib.sh
rounds=${rounds:-3} seconds=${seconds:-5}

start_both nbd
skip_first_sync alice

# job CONNECTIONS NAME OPTIONS...: a line `NAME CONNECTIONS IOPS KIB/S` into $work/results
job() {
    local connections=$1 name=$2 out at=49
    shift 2
    out=$(timeout $((seconds * 3 + 60)) fio --name=job --filename=/dev/nbd5 --ioengine=libaio --direct=1 --time_based --runtime=$seconds \
        --size=100% --norandommap --randrepeat=0 --group_reporting --minimal --terse-version=3 "$@" 2>&1 | grep '^3;') || fail "fio: $out"
    case $name in *read*) at=8 ;; esac
    echo "$name $connections $(cut -d';' -f$at <<<"$out") $(cut -d';' -f$((at - 1)) <<<"$out")" | tee -a $work/results
}
for round in $(seq "$rounds"); do
    for connections in 1 2; do
        printf 'device-links = true\nnbd-connections = %s\n' $connections >$work/rdbd.toml
        must adm alice restart
        await 30 settled
        must adm alice primary r0
        has_queues nbd5 $connections
        job $connections 4k-write-1x32 --rw=randwrite --bs=4k --iodepth=32
        job $connections 4k-write-4x8 --rw=randwrite --bs=4k --iodepth=8 --numjobs=4
        job $connections 4k-read-4x8 --rw=randread --bs=4k --iodepth=8 --numjobs=4
        job $connections 1M-write-1x8 --rw=write --bs=1M --iodepth=8
        must adm alice secondary r0
        await 10 test ! -e /sys/block/nbd5/pid
    done
done
median() { sort -n | awk '{v[NR]=$1} END {print (NR % 2) ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2}'; }
echo
echo '| job | unit | 1 | 2 | ratio |'
for name in 4k-write-1x32 4k-write-4x8 4k-read-4x8 1M-write-1x8; do
    unit=IOPS column=3
    case $name in 1M*) unit=KiB/s column=4 ;; esac
    values=()
    for connections in 1 2; do
        values+=("$(awk -v n=$name -v c=$connections -v k=$column '$1 == n && $2 == c { print $k }' $work/results | median)")
    done
    echo "$name $unit ${values[*]}" |
        awk '{ printf "| %s | %s | %d | %d | %.2f |\n", $1, $2, $3, $4, $4 / $3 }'
done
