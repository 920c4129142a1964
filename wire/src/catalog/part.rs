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
}

catalog! {
    /// Of one disk.
    DISK;
}
