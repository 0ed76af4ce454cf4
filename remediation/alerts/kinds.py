"""What an alert's type, or for old rows its display name, says about direction.

Source: Microsoft's list of Azure network layer alerts, and recorded alerts for the host-based ones.
Matching ignores case, the `SIMULATED_` prefix and the `[SAMPLE ALERT]` mark.
"""

from __future__ import annotations

import re

from remediation.model import AlertDirection as D

SAMPLE_TYPE = "simulated_"
SAMPLE_NAME = "[sample alert]"

_BY_TYPE: dict[str, D] = {
    "network_communicationwithc2": D.OUTBOUND_C2,
    "adaptivenetworkhardeninginbound": D.INBOUND,
    "network_trafficfromunrecommendedip": D.INBOUND,
    "generic_incoming_bf_onetoone": D.INBOUND,
    "sql_incoming_bf_onetoone": D.INBOUND,
    "rdp_incoming_bf_onetoone": D.INBOUND,
    "rdp_incoming_bf_manytoone": D.INBOUND,
    "ssh_incoming_bf_onetoone": D.INBOUND,
    "ssh_incoming_bf_manytoone": D.INBOUND,
    "vm_loginbruteforcesuccess": D.INBOUND,
    "vm_loginbruteforcevaliduserfailed": D.INBOUND,
    "vm_rdpbruteforcesuccess": D.INBOUND,
    "vm_rdpbruteforcefailed": D.INBOUND,
    "vm_sshbruteforcesuccess": D.INBOUND,
    "vm_sshbruteforcefailed": D.INBOUND,
    "sql.vm_bruteforce": D.INBOUND,
    "rdp_outgoing_bf_onetoone": D.OUTBOUND_ATTACK,
    "rdp_outgoing_bf_onetomany": D.OUTBOUND_ATTACK,
    "ssh_outgoing_bf_onetoone": D.OUTBOUND_ATTACK,
    "ssh_outgoing_bf_onetomany": D.OUTBOUND_ATTACK,
    "portscanning": D.OUTBOUND_ATTACK,
    "ddos": D.OUTBOUND_ATTACK,
    "network_resourceipindicatedasmalicious": D.NONE,
}

_BY_NAME: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), alert_type)
    for pattern, alert_type in (
        (r"network communication with a malicious machine detected", "Network_CommunicationWithC2"),
        (
            (
                r"traffic detected from ip addresses recommended for blocking|"
                r"traffic (detected )?from unrecommended ip addresses( was detected)?"
            ),
            "Network_TrafficFromUnrecommendedIP",
        ),
        (r"possible incoming sql brute force attempts detected", "SQL_Incoming_BF_OneToOne"),
        (r"possible incoming .*brute force attempts detected", "Generic_Incoming_BF_OneToOne"),
        (r"suspicious incoming rdp network activity", "RDP_Incoming_BF_OneToOne"),
        (r"suspicious incoming rdp network activity from .*", "RDP_Incoming_BF_ManyToOne"),
        (r"suspicious incoming ssh network activity", "SSH_Incoming_BF_OneToOne"),
        (r"suspicious incoming ssh network activity from .*", "SSH_Incoming_BF_ManyToOne"),
        (r"successful rdp brute force attack", "VM_RdpBruteForceSuccess"),
        (r"failed rdp brute force attack", "VM_RdpBruteForceFailed"),
        (r"successful ssh brute force attack", "VM_SshBruteForceSuccess"),
        (r"failed ssh brute force attack", "VM_SshBruteForceFailed"),
        (r"suspicious authentication activity", "VM_LoginBruteForceValidUserFailed"),
        (r"suspicious outgoing rdp network activity", "RDP_Outgoing_BF_OneToOne"),
        (r"suspicious outgoing rdp network activity to .*", "RDP_Outgoing_BF_OneToMany"),
        (r"suspicious outgoing ssh network activity", "SSH_Outgoing_BF_OneToOne"),
        (r"suspicious outgoing ssh network activity to .*", "SSH_Outgoing_BF_OneToMany"),
        (r"possible outgoing denial-of-service attack detected", "DDOS"),
        (r"possible outgoing port scanning activity detected", "PortScanning"),
        (r"possible compromised machine detected", "Network_ResourceIpIndicatedAsMalicious"),
    )
)

def bare_type(alert_type: str) -> str:
    """The type, folded, without the mark of a sample."""
    return alert_type.strip().casefold().removeprefix(SAMPLE_TYPE)


def bare_name(display_name: str) -> str:
    """The display name, folded, without the mark of a sample."""
    return display_name.strip().casefold().removeprefix(SAMPLE_NAME).strip()


def known_type(alert_type: str, display_name: str) -> str:
    """The documented alert type, folded, that this alert is of; '' if it is none we know.

    Old rows repeat the display name as the alert type, or carry a forgotten name of it.
    """
    bare = bare_type(alert_type)
    if bare in _BY_TYPE:
        return bare
    for name in (bare_name(display_name), bare_name(alert_type)):
        for pattern, known in _BY_NAME:
            if pattern.fullmatch(name):
                return known.casefold()
    return ""


def direction_of(alert_type: str, display_name: str) -> D:
    """The direction of traffic that the alert is about; `unknown` for types not listed here."""
    return _BY_TYPE.get(known_type(alert_type, display_name), D.UNKNOWN)


def is_flagged_resource(alert_type: str, display_name: str) -> bool:
    """True for the alert whose addresses are all ours: a machine of ours is on someone's list."""
    return known_type(alert_type, display_name) == "network_resourceipindicatedasmalicious"


def is_sample(alert_type: str, display_name: str, resource_ids: tuple[str, ...]) -> bool:
    """Any one mark suffices: one recorded shape lacks the type's prefix."""
    return (
        alert_type.strip().casefold().startswith(SAMPLE_TYPE)
        or display_name.strip().casefold().startswith(SAMPLE_NAME)
        or any("/resourcegroups/sample-rg/" in f"{r}/" for r in resource_ids)
    )
