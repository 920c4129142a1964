# A small Debian with both packages and the simulated driver, booted by systemd-nspawn. To be sourced.
#
# Everything lives in a mount, a PID and a network namespace and a cgroup of its own, so that nothing is left of it, whatever
# happens: own_namespaces starts the script anew in them, and the kernel kills what is in a PID namespace when its first process ends.

suite=${SUITE:-bookworm}
base=target/systemd/$suite
run=target/systemd/run
root=$run/root
cgroup=/sys/fs/cgroup/gridstep-test-systemd
library_dir=/usr/lib/$(uname -m)-linux-gnu

own_namespaces() { # the script's own name
    [[ $(id -u) -eq 0 ]] || die "needs root, as it boots a container: sudo make test-systemd"
    [[ -v GRIDSTEP_NAMESPACES ]] || GRIDSTEP_NAMESPACES=1 exec unshare --mount --pid --fork --kill-child --mount-proc "$1"
    trap 'exit 130' INT TERM
}

# Once; later runs put their changes into a layer over it.
make_base() {
    [[ -d $base ]] && return
    local attempt
    for attempt in 1 2 3; do
        bootstrap && break
        ((attempt < 3)) || { tail -n 20 "$base.log"; die "debootstrap failed"; }
        echo "        debootstrap failed, once more"
    done
    rm -rf "$base.unfinished"/var/cache/apt/archives/*.deb
    mv "$base.unfinished" "$base"
}

bootstrap() {
    rm -rf "$base.unfinished"
    mkdir -p "$base.unfinished"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,procps "$suite" "$base.unfinished" \
        "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$base.log"
}

make_packages() {
    rm -rf target/systemd/packages
    local package
    for package in gridstep-agent gridstep-collector; do
        target/tools/bin/cargo-deb -p "$package" --no-build --profile dev --fast --quiet -o target/systemd/packages/ >/dev/null
    done
}

make_root() {
    mkdir -p "$run"
    mount -t tmpfs tmpfs "$run"
    mkdir "$run"/{root,changes,work}
    mount -t overlay overlay -o "lowerdir=$base,upperdir=$run/changes,workdir=$run/work" "$root"
    : >"$root/etc/machine-id"
    echo testnode >"$root/etc/hostname"
    mkdir "$root/root/packages"
    cp target/systemd/packages/*.deb "$root/root/packages/"
    cp target/debug/libgridstep_simulator.so "$root$library_dir/libnvidia-ml.so.1"
    mkdir -p "$root/etc/systemd/system/gridstep-agent.service.d"
    printf '[Service]\nEnvironment=GRIDSTEP_SIM_SCENARIO=/etc/scenario.toml\n' \
        >"$root/etc/systemd/system/gridstep-agent.service.d/simulated-driver.conf"
    scenario ""
    chroot "$root" sh -c 'ldconfig && dpkg -i /root/packages/*.deb' >"$run/install.log" 2>&1 ||
        { cat "$run/install.log"; die "the packages do not install"; }
}

scenario() { # faults
    printf 'nodes = 1\n%s\n' "$1" >"$root/etc/scenario.toml"
}

boot() {
    umount -R /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir -p "$cgroup"
    (
        echo "$BASHPID" >"$cgroup/cgroup.procs"
        exec systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit --private-network --console=pipe \
            </dev/null >"$run/console.log" 2>&1
    ) &
    nspawn=$!
    trap shut_down EXIT
    wait_for 60 "the container's first process" find_leader
    wait_for 60 "systemd in the container" booted
}

booted() { [[ $(node systemctl is-system-running 2>/dev/null) =~ running|degraded ]]; }

find_leader() {
    kill -0 "$nspawn" 2>/dev/null || { cat "$run/console.log"; die "the container ended"; }
    leader=$(pgrep --parent "$nspawn" --newest) && [[ $(tail -n 1 <"/proc/$leader/comm") == systemd ]]
}

# What is in the cgroup is killed; the namespaces' mounts go with them.
shut_down() {
    echo 1 >"$cgroup/cgroup.kill"
    wait "$nspawn" 2>/dev/null || true
    local attempt
    for attempt in {1..100}; do
        find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
        [[ -d $cgroup ]] || return 0
        sleep 0.1
    done
    echo "processes do not die: $cgroup stays" >&2
}

# Runs a command in the container.
node() {
    nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup -- \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C SYSTEMD_PAGER= "$@"
}

http() { # port path
    nsenter --target "$leader" --net curl --silent --show-error --fail --max-time 5 "http://127.0.0.1:$1$2"
}

property() { # unit property
    node systemctl show --property="$2" --value "$1"
}

# Processes of a unit whose command line has the word, as PIDs outside of the container.
processes() { # unit word
    local pid
    while read -r pid; do
        tr '\0' ' ' <"/proc/$pid/cmdline" | grep --quiet --word-regexp -- "$2" && echo "$pid"
    done < <(find "$cgroup" -path "*/$1/cgroup.procs" -exec cat {} +)
}
