# What the units promise, in the order of the numbers. To be sourced.

units=(gridstep-agent.service gridstep-collector.service)
agent_port=19810
collector_port=19811
# A stop takes no longer, seconds.
longest_stop=5

# --- what is looked at

is() { # unit property value
    [[ $(property "$1" "$2") == "$3" ]]
}

expect() { # unit property value
    is "$@" || die "$1: $2 is $(property "$1" "$2"), not $3"
}

runs() { # unit
    is "$1" ActiveState active && is "$1" SubState running
}

agent_reads() { # GPUs that answer
    [[ $(http $agent_port /metrics 2>/dev/null | grep -c '^gridstep_gpu_power_watts{') -eq $1 ]]
}

# The collector has judged seconds of all GPUs of the node, which is connected now.
fleet_is_complete() {
    http $collector_port /metrics 2>/dev/null | grep -q '^gridstep_collector_nodes_connected 1$' &&
        [[ $(http $collector_port /api/v1/fleet 2>/dev/null | grep -o '"up":true' | wc -l) -eq 8 ]]
}

all_is_well() {
    local unit
    for unit in "${units[@]}"; do wait_for 60 "$unit runs" runs "$unit"; done
    wait_for 60 "the agent reads 8 GPUs" agent_reads 8
    wait_for 60 "the collector sees 8 GPUs of the agent" fleet_is_complete
    local before
    before=$(samples)
    wait_for 60 "the collector gets more" eval "((\$(samples) > $before))"
}

# Values that the collector has taken since it started.
samples() {
    http $collector_port /metrics 2>/dev/null | sed -n 's/^gridstep_collector_samples_total //p' | grep . || echo 0
}

said() { # unit since-cursor text
    node journalctl --no-pager --output=cat --unit="$1" --after-cursor="$2" | grep --quiet --fixed-strings -- "$3"
}

cursor() {
    node journalctl --no-pager --lines=0 --show-cursor | sed -n 's/^-- cursor: //p'
}

# The process stays the same, whether the command succeeds or not.
same_process() { # unit command…
    local unit=$1 pid status=0
    pid=$(property "$unit" MainPID)
    "${@:2}" || status=$?
    expect "$unit" MainPID "$pid"
    expect "$unit" ActiveState active
    return $status
}

stops_in_time() { # unit
    local from=$EPOCHREALTIME took
    node systemctl stop "$1"
    took=$(awk -v from="$from" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.2f", to - from }')
    echo "        $1 stopped after $took s"
    awk -v took="$took" -v longest=$longest_stop 'BEGIN { exit took > longest }' || die "$1 took $took s to stop"
    is "$1" ActiveState inactive || is "$1" ActiveState failed || die "$1 is $(property "$1" ActiveState) after a stop"
}

# --- the checks

check_10_both_run_and_say_so() {
    local unit
    all_is_well
    for unit in "${units[@]}"; do
        expect "$unit" Type notify
        expect "$unit" NRestarts 0
        expect "$unit" UnitFileState enabled
        [[ $(node ps -o user:32= -p "$(property "$unit" MainPID)") == "${unit%.service}" ]] || die "$unit runs as another user"
    done
    wait_for 20 "the agent's status" is gridstep-agent.service StatusText "reading 8 GPUs; streaming to the collector"
    wait_for 20 "the collector's status" is gridstep-collector.service StatusText "1 of 1 nodes connected, 0 incidents open"
    # Restarts with a back-off, where systemd knows the words.
    local version
    version=$(node systemctl --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')
    if ((version >= 254)); then
        for unit in "${units[@]}"; do expect "$unit" RestartSteps 5; done
    fi
    echo "        systemd $version"
}

check_20_nothing_to_complain_about() {
    local complaints
    complaints=$(node systemd-analyze verify "${units[@]}" 2>&1) || true
    [[ -z $complaints ]] || die "systemd-analyze verify: $complaints"
    complaints=$(warnings)
    [[ -z $complaints ]] || die "warnings at a start where nothing is wrong: $complaints"
}

check_21_hardened() {
    local unit goal exposure
    for unit in "${units[@]}"; do
        goal=2.0
        [[ $unit == gridstep-agent.service ]] && goal=3.0
        exposure=$(node systemd-analyze security --no-pager "$unit" | sed -n 's/.*exposure level for .*: \([0-9.]*\) .*/\1/p')
        echo "        $unit: exposure $exposure, goal $goal"
        awk -v exposure="$exposure" -v goal=$goal 'BEGIN { exit !(exposure != "" && exposure <= goal) }' || die "$unit is too exposed"
    done
}

check_30_a_reload_applies_the_file() {
    sed -i 's/^listen = "127.0.0.1:19810"/listen = "127.0.0.1:29810"/' "$root/etc/gridstep/agent.toml"
    sed -i 's/^listen = "127.0.0.1:19811"/listen = "127.0.0.1:29811"/' "$root/etc/gridstep/collector.toml"
    agent_port=29810 collector_port=29811
    local unit
    for unit in "${units[@]}"; do same_process "$unit" node systemctl reload "$unit"; done
    all_is_well
    for unit in "${units[@]}"; do expect "$unit" NRestarts 0; done
}

# Twice: systemctl reload does not get as far as the daemon, a plain SIGHUP does.
check_31_a_reload_of_a_file_with_faults_changes_nothing() {
    local unit file before from
    for unit in "${units[@]}"; do
        file=$root/etc/gridstep/${unit#gridstep-}
        file=${file%.service}.toml
        before=$(<"$file")
        sed -i 's/^listen = .*/listen = "nowhere"/' "$file"
        from=$(cursor)
        ! same_process "$unit" node systemctl reload "$unit" 2>/dev/null || die "$unit was reloaded with a faulty file"
        wait_for 20 "why the reload failed" said "$unit" "$from" "http.listen"
        from=$(cursor)
        same_process "$unit" node systemctl kill --kill-who=main --signal=HUP "$unit"
        wait_for 20 "that nothing was reloaded" said "$unit" "$from" "not reloaded, the configuration before stays"
        printf '%s\n' "$before" >"$file"
    done
    all_is_well
}

check_32_a_reload_that_cannot_be_set_up_is_undone() {
    local unit file before from
    for unit in "${units[@]}"; do
        file=$root/etc/gridstep/${unit#gridstep-}
        file=${file%.service}.toml
        before=$(<"$file")
        # The port of the other one.
        sed -i 's/^listen = "127.0.0.1:29810"/listen = "127.0.0.1:29811"/; t; s/^listen = "127.0.0.1:29811"/listen = "127.0.0.1:29810"/' "$file"
        from=$(cursor)
        same_process "$unit" node systemctl reload "$unit"
        wait_for 20 "that the reload is undone" said "$unit" "$from" "cannot be set up, the one before stays"
        printf '%s\n' "$before" >"$file"
    done
    all_is_well
}

# A stopped process gives no sign of life, as a stuck one.
check_40_the_watchdog_replaces_what_is_stuck() {
    local unit from
    from=$(cursor)
    for unit in "${units[@]}"; do node systemctl kill --kill-who=main --signal=STOP "$unit"; done
    for unit in "${units[@]}"; do
        wait_for 90 "$unit is restarted" is "$unit" NRestarts 1
        said "$unit" "$from" "Watchdog timeout" || die "$unit was not restarted by the watchdog"
    done
    all_is_well
}

check_41_what_dies_is_restarted() {
    local unit
    for unit in "${units[@]}"; do
        node systemctl kill --kill-who=main --signal=KILL "$unit"
        wait_for 60 "$unit is restarted" is "$unit" NRestarts 2
    done
    all_is_well
}

check_50_stops_in_time() {
    local unit
    for unit in "${units[@]}"; do
        stops_in_time "$unit"
        expect "$unit" Result success
    done
    for unit in "${units[@]}"; do node systemctl start "$unit"; done
    all_is_well
}

# A call into the driver hangs all the time: as soon as one reader has been given up, the next one is in it.
check_51_stops_in_time_while_a_call_hangs() {
    local gpu from faults=
    for gpu in {0..7}; do faults+=$'[[fault]]\nkind = "hung_call"\nnode = 0\nstart = 0.0\ngpu = '$gpu$'\n'; done
    scenario "$faults"
    from=$(cursor)
    node systemctl restart gridstep-agent
    wait_for 60 "a gpu that hangs" said gridstep-agent.service "$from" "does not return"
    stops_in_time gridstep-agent.service
    scenario ""
    node systemctl start gridstep-agent
    all_is_well
}

# A frozen process does not die of SIGKILL, as one that is stuck in the driver.
check_52_stops_in_time_while_a_reader_cannot_be_killed() {
    local freezer=$run/freezer/gridstep-test-systemd reader
    mkdir -p "$run/freezer"
    mount -t cgroup -o freezer freezer "$run/freezer"
    mkdir -p "$freezer"
    reader=$(processes gridstep-agent.service reader)
    echo "$reader" >"$freezer/cgroup.procs"
    echo FROZEN >"$freezer/freezer.state"
    stops_in_time gridstep-agent.service
    kill -0 "$reader" 2>/dev/null || die "the frozen reader died: nothing was tested"
    node systemctl start gridstep-agent
    all_is_well
    echo THAWED >"$freezer/freezer.state"
    wait_for 20 "the end of the frozen reader" eval "! kill -0 $reader 2>/dev/null"
    rmdir "$freezer"
}

# By the socket in the unit's RuntimeDirectory=, which is there after a reload too.
check_53_lets_go_of_the_driver_when_it_is_told() {
    node gridstep-agent release --for 10m || die "the agent has not let go of the driver"
    [[ -z $(processes gridstep-agent.service reader) ]] || die "a reader runs while the driver is let go of"
    same_process gridstep-agent.service node systemctl reload gridstep-agent
    wait_for 20 "the agent's status" is gridstep-agent.service StatusText "has let go of the driver, as asked; streaming to the collector"
    [[ -z $(processes gridstep-agent.service reader) ]] || die "a reload has ended the release"
    node gridstep-agent release --end || die "the agent has not taken the driver again"
    all_is_well
}

check_60_an_upgrade_restarts_and_keeps_the_configuration() {
    local unit pid pids=()
    for unit in "${units[@]}"; do pids+=("$(property "$unit" MainPID)"); done
    node sh -c 'dpkg -i /root/packages/*.deb' >"$run/upgrade.log" 2>&1 || { cat "$run/upgrade.log"; die "the upgrade failed"; }
    all_is_well
    for unit in "${units[@]}"; do
        pid=$(property "$unit" MainPID)
        [[ " ${pids[*]} " != *" $pid "* ]] || die "$unit was not restarted"
    done
}

check_70_a_journal_without_other_warnings() {
    local rest
    rest=$(warnings | grep --invert-match --extended-regexp "$(IFS='|'; echo "${provoked[*]}")") || true
    [[ -z $rest ]] || die "warnings that nothing above provoked:"$'\n'"$rest"
}

check_80_nothing_stays_after_a_purge() {
    local rest
    # The test's own.
    rm -r "$root/etc/systemd/system/gridstep-agent.service.d"
    node dpkg --purge gridstep-agent gridstep-collector >"$run/purge.log" 2>&1 || { cat "$run/purge.log"; die "the purge failed"; }
    rest=$(cd "$root" && find etc usr -name '*gridstep*'; node ps -e -o args= | grep '[g]ridstep-' || true)
    [[ -z $rest ]] || die "left after a purge: $rest"
}

# --- warnings

# Of the daemons, by the level in their lines, and of systemd about their units, by priority.
warnings() {
    node journalctl --no-pager --output=cat --unit='gridstep-*' _SYSTEMD_CGROUP=/system.slice/gridstep-agent.service \
        + _SYSTEMD_CGROUP=/system.slice/gridstep-collector.service | grep --extended-regexp ' (WARN|ERROR) |panicked' || true
    node journalctl --no-pager --output=cat --priority=warning _PID=1 | grep gridstep || true
}

provoked=(
    'no stream to the collector'                                 # 30 to 50: the collector was away
    'not reloaded, the configuration before stays'               # 31
    'cannot be set up, the one before stays'                     # 32
    'Control process exited, code=exited, status=64|Reload failed' # 31
    'during the restart most of the fleet was not seen'          # 40: both stood still
    'Watchdog timeout|Failed with result .watchdog'              # 40
    'Main process exited, code=(killed|dumped), status=(9/KILL|6/ABRT)' # 40, 41
    'Failed with result .signal'                                 # 41
    'a call into the driver does not return|a gpu does not answer|no reader delivers' # 51
    'Killing process [0-9]+ \(gridstep-agent\) with signal SIGKILL' # 51, 52
    'Processes still around after|remains running after unit stopped|Failed with result .timeout' # 52
    'Found left-over process|This usually indicates unclean termination' # 52
)
