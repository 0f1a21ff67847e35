package vhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// request is a front-end request, by the specification's numbers.
type request uint32

const (
	reqGetFeatures         request = 1
	reqSetFeatures         request = 2
	reqSetOwner            request = 3
	reqResetOwner          request = 4
	reqSetMemTable         request = 5
	reqSetVringNum         request = 8
	reqSetVringAddr        request = 9
	reqSetVringBase        request = 10
	reqGetVringBase        request = 11
	reqSetVringKick        request = 12
	reqSetVringCall        request = 13
	reqSetVringErr         request = 14
	reqGetProtocolFeatures request = 15
	reqSetProtocolFeatures request = 16
	reqGetQueueNum         request = 17
	reqSetVringEnable      request = 18
	reqSendRARP            request = 19
)

var reqNames = map[request]string{
	reqGetFeatures: "GET_FEATURES", reqSetFeatures: "SET_FEATURES", reqSetOwner: "SET_OWNER", reqResetOwner: "RESET_OWNER",
	reqSetMemTable: "SET_MEM_TABLE", reqSetVringNum: "SET_VRING_NUM", reqSetVringAddr: "SET_VRING_ADDR",
	reqSetVringBase: "SET_VRING_BASE", reqGetVringBase: "GET_VRING_BASE", reqSetVringKick: "SET_VRING_KICK",
	reqSetVringCall: "SET_VRING_CALL", reqSetVringErr: "SET_VRING_ERR", reqGetProtocolFeatures: "GET_PROTOCOL_FEATURES",
	reqSetProtocolFeatures: "SET_PROTOCOL_FEATURES", reqGetQueueNum: "GET_QUEUE_NUM", reqSetVringEnable: "SET_VRING_ENABLE",
	reqSendRARP: "SEND_RARP",
}

func (r request) String() string {
	if n, ok := reqNames[r]; ok {
		return n
	}
	return fmt.Sprintf("request %d", uint32(r))
}

// Header flags.
const (
	flagVersion   = 1
	flagReply     = 1 << 2
	flagNeedReply = 1 << 3
)

const (
	headerBytes = 12
	maxPayload  = 4096
	maxFDs      = 8 // one a memory region
)

// message is one message in either direction.
type message struct {
	req     request
	flags   uint32
	payload []byte
	fds     []int // owned by whoever holds the message
}

func (m *message) closeFDs() {
	for _, fd := range m.fds {
		unix.Close(fd)
	}
	m.fds = nil
}

// u64 is the payload of most messages.
func (m *message) u64() (uint64, error) {
	if len(m.payload) != 8 {
		return 0, fmt.Errorf("payload of %d bytes, want 8", len(m.payload))
	}
	return binary.LittleEndian.Uint64(m.payload), nil
}

// vringState is {index, num}.
func (m *message) vringState() (index, num uint32, err error) {
	if len(m.payload) != 8 {
		return 0, 0, fmt.Errorf("payload of %d bytes, want 8", len(m.payload))
	}
	return binary.LittleEndian.Uint32(m.payload), binary.LittleEndian.Uint32(m.payload[4:]), nil
}

// region is one entry of SET_MEM_TABLE.
type region struct {
	guest  uint64 // guest physical address
	size   uint64 // bytes
	user   uint64 // address in QEMU
	offset uint64 // of the region in its file
}

func (m *message) regions() ([]region, error) {
	if len(m.payload) < 8 {
		return nil, fmt.Errorf("payload of %d bytes", len(m.payload))
	}
	n := binary.LittleEndian.Uint32(m.payload)
	if n > maxFDs || len(m.payload) != 8+32*int(n) {
		return nil, fmt.Errorf("%d regions in %d bytes", n, len(m.payload))
	}
	out := make([]region, n)
	for i := range out {
		p := m.payload[8+32*i:]
		out[i] = region{
			binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:]),
			binary.LittleEndian.Uint64(p[16:]), binary.LittleEndian.Uint64(p[24:]),
		}
	}
	return out, nil
}

// vringAddr is the payload of SET_VRING_ADDR; addresses are QEMU's.
type vringAddr struct {
	index, flags             uint32
	desc, used, avail, logAt uint64
}

func (m *message) vringAddr() (a vringAddr, err error) {
	if len(m.payload) != 40 {
		return a, fmt.Errorf("payload of %d bytes, want 40", len(m.payload))
	}
	p := m.payload
	a.index, a.flags = binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:])
	a.desc, a.used = binary.LittleEndian.Uint64(p[8:]), binary.LittleEndian.Uint64(p[16:])
	a.avail, a.logAt = binary.LittleEndian.Uint64(p[24:]), binary.LittleEndian.Uint64(p[32:])
	return a, nil
}

// readMessage reads one message with its file descriptors from a blocking stream
// socket. The payload is valid until the next call with the same buf.
func readMessage(fd int, buf *[headerBytes + maxPayload]byte) (*message, error) {
	oob := make([]byte, unix.CmsgSpace(4*maxFDs))
	m := &message{}
	n, oobn, flags, _, err := recvmsg(fd, buf[:headerBytes], oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	if err := m.takeFDs(oob[:oobn]); err != nil {
		return nil, err
	}
	fail := func(err error) (*message, error) {
		m.closeFDs()
		return nil, err
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return fail(errors.New("more file descriptors than a message can have"))
	}
	if err := readFull(fd, buf[n:headerBytes]); err != nil {
		return fail(err)
	}
	m.req = request(binary.LittleEndian.Uint32(buf[:]))
	m.flags = binary.LittleEndian.Uint32(buf[4:])
	size := binary.LittleEndian.Uint32(buf[8:])
	if m.flags&3 != flagVersion {
		return fail(fmt.Errorf("%v: protocol version %d, want %d", m.req, m.flags&3, flagVersion))
	}
	if size > maxPayload {
		return fail(fmt.Errorf("%v: payload of %d bytes", m.req, size))
	}
	m.payload = buf[headerBytes : headerBytes+size]
	if err := readFull(fd, m.payload); err != nil {
		return fail(err)
	}
	return m, nil
}

func (m *message) takeFDs(oob []byte) error {
	if len(oob) == 0 {
		return nil
	}
	cs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	for i := range cs {
		fds, err := unix.ParseUnixRights(&cs[i])
		if err != nil {
			continue // not file descriptors
		}
		m.fds = append(m.fds, fds...)
	}
	return nil
}

func recvmsg(fd int, p, oob []byte, flags int) (n, oobn, recvflags int, from unix.Sockaddr, err error) {
	for {
		n, oobn, recvflags, from, err = unix.Recvmsg(fd, p, oob, flags)
		if err != unix.EINTR {
			return
		}
	}
}

func readFull(fd int, p []byte) error {
	for len(p) > 0 {
		n, err := unix.Read(fd, p)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return io.ErrUnexpectedEOF
		}
		p = p[n:]
	}
	return nil
}

// reply answers m.
func reply(fd int, req request, payload []byte) error {
	b := make([]byte, headerBytes, headerBytes+len(payload))
	binary.LittleEndian.PutUint32(b, uint32(req))
	binary.LittleEndian.PutUint32(b[4:], flagVersion|flagReply)
	binary.LittleEndian.PutUint32(b[8:], uint32(len(payload)))
	b = append(b, payload...)
	for len(b) > 0 {
		n, err := unix.SendmsgN(fd, b, nil, nil, unix.MSG_NOSIGNAL)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
