package abi

// Sockets: what package syscall lacks (include/uapi/linux/{socket,in,in6,tcp,udp,un}.h,
// asm-generic/socket.h, sockios.h, if.h).

// Flags of socket(2) and accept4(2), in the type.
const (
	SOCK_TYPE_MASK = 0xf
	SOCK_NONBLOCK  = 0x800
	SOCK_CLOEXEC   = 0x80000
)

// Flags of send and recv.
const (
	MSG_PROBE        = 0x10
	MSG_MORE         = 0x8000
	MSG_BATCH        = 0x40000
	MSG_ZEROCOPY     = 0x4000000
	MSG_FASTOPEN     = 0x20000000
	MSG_CMSG_CLOEXEC = 0x40000000
	MSG_WAITFORONE   = 0x10000
	MSG_ERRQUEUE     = 0x2000
)

// Levels.
const (
	SOL_UDP     = 17
	SOL_NETLINK = 270
)

// Options of SOL_SOCKET.
const (
	SO_REUSEPORT         = 15
	SO_PASSCRED          = 16
	SO_PEERCRED          = 17
	SO_PEERSEC           = 31
	SO_PASSSEC           = 34
	SO_MARK              = 36
	SO_RXQ_OVFL          = 40
	SO_WIFI_STATUS       = 41
	SO_PEEK_OFF          = 42
	SO_NOFCS             = 43
	SO_LOCK_FILTER       = 44
	SO_SELECT_ERR_QUEUE  = 45
	SO_BUSY_POLL         = 46
	SO_MAX_PACING_RATE   = 47
	SO_BPF_EXTENSIONS    = 48
	SO_INCOMING_CPU      = 49
	SO_MEMINFO           = 55
	SO_INCOMING_NAPI_ID  = 56
	SO_COOKIE            = 57
	SO_PEERGROUPS        = 59
	SO_ZEROCOPY          = 60
	SO_RCVTIMEO_NEW      = 66
	SO_SNDTIMEO_NEW      = 67
	SO_TIMESTAMP_NEW     = 63
	SO_TIMESTAMPNS_NEW   = 64
	SO_PREFER_BUSY_POLL  = 69
	SO_BUSY_POLL_BUDGET  = 70
	SO_NETNS_COOKIE      = 71
	SO_BUF_LOCK          = 72
	SO_RESERVE_MEM       = 73
	SO_DETACH_REUSEPORT  = 68
	SO_TIMESTAMPING      = 37
	SO_ATTACH_REUSE_CBPF = 51
	SO_ATTACH_REUSE_EBPF = 52
	SO_GET_FILTER        = 26
)

// Options of IPPROTO_TCP.
const (
	TCP_THIN_LINEAR_TIMEOUTS = 16
	TCP_THIN_DUPACK          = 17
	TCP_USER_TIMEOUT         = 18
	TCP_FASTOPEN             = 23
	TCP_TIMESTAMP            = 24
	TCP_NOTSENT_LOWAT        = 25
	TCP_SAVED_SYN            = 28
	TCP_FASTOPEN_CONNECT     = 30
	TCP_ULP                  = 31
	TCP_MD5SIG_EXT           = 32
	TCP_INQ                  = 36
	TCP_TX_DELAY             = 37
)

// Options of IPPROTO_UDP.
const (
	UDP_CORK    = 1
	UDP_ENCAP   = 100
	UDP_SEGMENT = 103
	UDP_GRO     = 104
)

// Options of IPPROTO_IP and IPPROTO_IPV6.
const (
	IP_BIND_ADDRESS_NO_PORT = 24
	IP_LOCAL_PORT_RANGE     = 51
	IP_NODEFRAG             = 22
	IP_CHECKSUM             = 23
	IP_MULTICAST_ALL        = 49
	IP_UNICAST_IF           = 50

	IPV6_RECVERR          = 25
	IPV6_RECVPKTINFO      = 49
	IPV6_PKTINFO          = 50
	IPV6_RECVHOPLIMIT     = 51
	IPV6_HOPLIMIT         = 52
	IPV6_RECVTCLASS       = 66
	IPV6_TCLASS           = 67
	IPV6_AUTOFLOWLABEL    = 70
	IPV6_ADDR_PREFERENCES = 72
	IPV6_MINHOPCOUNT      = 73
	IPV6_TRANSPARENT      = 75
	IPV6_UNICAST_IF       = 76
	IPV6_DONTFRAG         = 62
	IPV6_MULTICAST_ALL    = 29
	IPV6_FREEBIND         = 78
)

// Path MTU discovery: values of IP_MTU_DISCOVER.
const (
	IP_PMTUDISC_DONT  = 0
	IP_PMTUDISC_WANT  = 1
	IP_PMTUDISC_DO    = 2
	IP_PMTUDISC_PROBE = 3
	IP_PMTUDISC_OMIT  = 5
)

// Control messages of SOL_SOCKET.
const (
	SCM_RIGHTS      = 1
	SCM_CREDENTIALS = 2
)

// ioctl requests of sockets and interfaces.
const (
	SIOCINQ            = 0x541b // FIONREAD
	SIOCOUTQ           = 0x5411 // TIOCOUTQ
	SIOCOUTQNSD        = 0x894b
	SIOCATMARK         = 0x8905
	SIOCGSTAMP         = 0x8906
	SIOCGSTAMPNS       = 0x8907
	FIOSETOWN          = 0x8901
	SIOCSPGRP          = 0x8902
	FIOGETOWN          = 0x8903
	SIOCGPGRP          = 0x8904
	SIOCGIFNAME        = 0x8910
	SIOCGIFCONF        = 0x8912
	SIOCGIFFLAGS       = 0x8913
	SIOCSIFFLAGS       = 0x8914
	SIOCGIFADDR        = 0x8915
	SIOCGIFDSTADDR     = 0x8917
	SIOCGIFBRDADDR     = 0x8919
	SIOCGIFNETMASK     = 0x891b
	SIOCGIFMETRIC      = 0x891d
	SIOCGIFMTU         = 0x8921
	SIOCGIFHWADDR      = 0x8927
	SIOCGIFINDEX       = 0x8933
	SIOCGIFTXQLEN      = 0x8942
	SIOCETHTOOL        = 0x8946
	SIOCGIFPFLAGS      = 0x8935
	SIOCGIFMAP         = 0x8970
	IFNAMSIZ           = 16
	SizeofIfreq        = 40
	ARPHRD_ETHER       = 1
	ARPHRD_LOOPBACK    = 772
	UNIX_PATH_MAX      = 108
	SOMAXCONN          = 4096
	UIO_MAXIOV         = 1024
	SCM_MAX_FD         = 253
	SizeofSockaddrUn   = 110
	SizeofSockaddrIn   = 16
	SizeofSockaddrIn6  = 28
	SizeofSockaddrNl   = 12
	SizeofSockaddrMax  = 128
	SizeofTCPInfo      = 232
	SizeofMsghdr       = 56
	SizeofMmsghdr      = 64
	SizeofCmsghdr      = 16
	SizeofUcred        = 12
	SizeofInPktinfo    = 12
	SizeofIn6Pktinfo   = 20
	IP_RECVORIGDSTADDR = 20
)
