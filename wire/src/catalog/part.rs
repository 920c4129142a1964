//! Metrics of parts of a GPU or of the node.

use super::catalog;

catalog! {
    /// Of one NVLink of a GPU.
    NVLINK;

    up "1" State 0 Slow:
        "1: the link is up, also where it sleeps",
        from "NVML_FI_DEV_NVLINK_GET_STATE";
    speed_bytes_per_second "By/s" State 6 Slow:
        "rate of the link, each direction",
        from "NVML_FI_DEV_NVLINK_GET_SPEED";
    replays_total "1" Counter 0 Slow:
        "packets sent again",
        from "NVML_FI_DEV_NVLINK_ERROR_DL_REPLAY";
    recoveries_total "1" Counter 0 Slow:
        "times that the link had to recover",
        from "NVML_FI_DEV_NVLINK_ERROR_DL_RECOVERY";
    crc_errors_total "1" Counter 0 Slow:
        "packets that came damaged",
        from "NVML_FI_DEV_NVLINK_ERROR_DL_CRC";
    sent_bytes_total "By" Counter 0 Slow:
        "data sent",
        from "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX";
    received_bytes_total "By" Counter 0 Slow:
        "data received",
        from "NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX";
}

catalog! {
    /// Of one InfiniBand or RoCE port.
    PORT;

    sent_bytes_total "By" Counter 0 Sweep:
        "bytes sent; of a RoCE port, those of RDMA",
        from "/sys/class/infiniband/*/ports/*/counters/port_xmit_data, times 4";
    received_bytes_total "By" Counter 0 Sweep:
        "bytes received; of a RoCE port, those of RDMA",
        from "/sys/class/infiniband/*/ports/*/counters/port_rcv_data, times 4";
    send_waits_total "1" Counter 0 Sweep:
        "ticks of the port in which it had something to send and was not let",
        from "/sys/class/infiniband/*/ports/*/counters/port_xmit_wait";
    receive_errors_total "1" Counter 0 Sweep:
        "packets that came damaged",
        from "/sys/class/infiniband/*/ports/*/counters/port_rcv_errors";
    send_discards_total "1" Counter 0 Sweep:
        "packets thrown away as the port was down or congested",
        from "/sys/class/infiniband/*/ports/*/counters/port_xmit_discards";
    sequence_errors_total "1" Counter 0 Sweep:
        "packets sent that the other side said it missed",
        from "/sys/class/infiniband/*/ports/*/hw_counters/packet_seq_err";
    ack_timeouts_total "1" Counter 0 Sweep:
        "packets sent that nobody acknowledged in time",
        from "/sys/class/infiniband/*/ports/*/hw_counters/local_ack_timeout_err";
    up "1" State 0 Sweep:
        "1: the port is active; looked at every ten seconds",
        from "/sys/class/infiniband/*/ports/*/state";
    state "1" State 0 Slow:
        "state of the port: 1 down, 2 initialising, 3 armed, 4 active, 5 active and deferred",
        from "/sys/class/infiniband/*/ports/*/state";
    physical_state "1" State 0 Slow:
        "state of its link: 1 sleeps, 2 polls, 3 disabled, 4 trains, 5 up, 6 recovers, 7 in test",
        from "/sys/class/infiniband/*/ports/*/phys_state";
    ethernet "1" State 0 Slow:
        "1: the link is Ethernet (RoCE); 0: InfiniBand",
        from "/sys/class/infiniband/*/ports/*/link_layer";
    link_bits_per_second "bit/s" State 0 Slow:
        "rate of the link",
        from "/sys/class/infiniband/*/ports/*/rate";
    sent_packets_total "1" Counter 0 Slow:
        "packets sent",
        from "/sys/class/infiniband/*/ports/*/counters/port_xmit_packets";
    received_packets_total "1" Counter 0 Slow:
        "packets received",
        from "/sys/class/infiniband/*/ports/*/counters/port_rcv_packets";
    symbol_errors_total "1" Counter 0 Slow:
        "symbols that came damaged",
        from "/sys/class/infiniband/*/ports/*/counters/symbol_error";
    link_recoveries_total "1" Counter 0 Slow:
        "times that the link failed and recovered by itself",
        from "/sys/class/infiniband/*/ports/*/counters/link_error_recovery";
    link_downs_total "1" Counter 0 Slow:
        "times that the link failed and went down",
        from "/sys/class/infiniband/*/ports/*/counters/link_downed";
    link_integrity_errors_total "1" Counter 0 Slow:
        "times that local errors of the link were beyond its threshold",
        from "/sys/class/infiniband/*/ports/*/counters/local_link_integrity_errors";
    buffer_overruns_total "1" Counter 0 Slow:
        "times that buffers overran beyond the threshold",
        from "/sys/class/infiniband/*/ports/*/counters/excessive_buffer_overrun_errors";
    out_of_sequence_total "1" Counter 0 Slow:
        "packets received out of their order",
        from "/sys/class/infiniband/*/ports/*/hw_counters/out_of_sequence";
    out_of_buffer_total "1" Counter 0 Slow:
        "packets dropped as no receive was posted for them",
        from "/sys/class/infiniband/*/ports/*/hw_counters/out_of_buffer";
    receiver_not_ready_total "1" Counter 0 Slow:
        "answers received that the receiver was not ready",
        from "/sys/class/infiniband/*/ports/*/hw_counters/rnr_nak_retry_err";
    congestion_marks_total "1" Counter 0 Slow:
        "packets received with a mark of congestion (ECN)",
        from "/sys/class/infiniband/*/ports/*/hw_counters/np_ecn_marked_roce_packets";
    congestion_notices_sent_total "1" Counter 0 Slow:
        "notices of congestion (CNP) sent to senders",
        from "/sys/class/infiniband/*/ports/*/hw_counters/np_cnp_sent";
    congestion_notices_handled_total "1" Counter 0 Slow:
        "notices of congestion (CNP) that slowed this sender down",
        from "/sys/class/infiniband/*/ports/*/hw_counters/rp_cnp_handled";
    slow_restarts_total "1" Counter 0 Slow:
        "times that a sender began anew slowly after a loss",
        from "/sys/class/infiniband/*/ports/*/hw_counters/roce_slow_restart";
    adaptive_retransmissions_total "1" Counter 0 Slow:
        "adaptive retransmissions",
        from "/sys/class/infiniband/*/ports/*/hw_counters/roce_adp_retrans";
}

catalog! {
    /// Of one network interface.
    INTERFACE;

    received_bytes_total "By" Counter 0 Sweep:
        "bytes received",
        from "/proc/net/dev";
    sent_bytes_total "By" Counter 0 Sweep:
        "bytes sent",
        from "/proc/net/dev";
    receive_errors_total "1" Counter 0 Sweep:
        "packets that came damaged",
        from "/proc/net/dev";
    send_errors_total "1" Counter 0 Sweep:
        "packets that could not be sent",
        from "/proc/net/dev";
    receive_drops_total "1" Counter 0 Sweep:
        "packets received and dropped",
        from "/proc/net/dev";
    send_drops_total "1" Counter 0 Sweep:
        "packets dropped before they were sent",
        from "/proc/net/dev";
    up "1" State 0 Sweep:
        "1: the interface works; looked at every ten seconds",
        from "/sys/class/net/*/operstate";
    link_bits_per_second "bit/s" State 0 Sweep:
        "rate of the link, where it has one; looked at every ten seconds",
        from "/sys/class/net/*/speed";
    carrier_changes_total "1" Counter 0 Slow:
        "times that the link came or went",
        from "/sys/class/net/*/carrier_changes";
}

catalog! {
    /// Of one disk.
    DISK;

    read_bytes_total "By" Counter 0 Sweep:
        "bytes read",
        from "/proc/diskstats";
    written_bytes_total "By" Counter 0 Sweep:
        "bytes written",
        from "/proc/diskstats";
    reads_total "1" Counter 0 Sweep:
        "reads that were done",
        from "/proc/diskstats";
    writes_total "1" Counter 0 Sweep:
        "writes that were done",
        from "/proc/diskstats";
    read_seconds_total "s" Counter -3 Sweep:
        "time that all reads took together",
        from "/proc/diskstats";
    write_seconds_total "s" Counter -3 Sweep:
        "time that all writes took together",
        from "/proc/diskstats";
    busy_seconds_total "s" Counter -3 Sweep:
        "time in which something was read or written",
        from "/proc/diskstats";
}
