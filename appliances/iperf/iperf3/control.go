package iperf3

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// state is what the control connection carries between JSON texts.
type state int8

const (
	testStart       state = 1
	testRunning     state = 2
	testEnd         state = 4
	paramExchange   state = 9
	createStreams   state = 10
	serverTerminate state = 11
	clientTerminate state = 12
	exchangeResults state = 13
	displayResults  state = 14
	iperfStart      state = 15
	iperfDone       state = 16
	accessDenied    state = -1
	serverError     state = -2 // then the two numbers of an Error
)

var stateNames = map[state]string{
	testStart: "TEST_START", testRunning: "TEST_RUNNING", testEnd: "TEST_END",
	paramExchange: "PARAM_EXCHANGE", createStreams: "CREATE_STREAMS",
	serverTerminate: "SERVER_TERMINATE", clientTerminate: "CLIENT_TERMINATE",
	exchangeResults: "EXCHANGE_RESULTS", displayResults: "DISPLAY_RESULTS",
	iperfStart: "IPERF_START", iperfDone: "IPERF_DONE",
	accessDenied: "ACCESS_DENIED", serverError: "SERVER_ERROR",
}

func (s state) String() string {
	if n := stateNames[s]; n != "" {
		return n
	}
	return fmt.Sprintf("state %d", int8(s))
}

func writeState(w io.Writer, s state) error {
	_, err := w.Write([]byte{byte(s)})
	return err
}

func readState(r io.Reader) (state, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return state(b[0]), err
}

// cookie names a test: 36 characters and a NUL.
type cookie [37]byte

func newCookie() (c cookie) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz234567"
	rand.Read(c[:36])
	for i := range c[:36] {
		c[i] = alphabet[c[i]%32]
	}
	return c
}

func (c cookie) String() string {
	n := 0
	for n < len(c) && c[n] > ' ' && c[n] < 0x7f {
		n++
	}
	return string(c[:n])
}

// Limits on JSON texts, bytes. Results hold up to 256 streams, and with
// --get-server-output all that the server printed.
const (
	maxParams  = 8 << 10
	maxResults = 16 << 20
)

// writeJSON sends v behind its length.
func writeJSON(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
	return err
}

// readText receives a JSON text of at most limit bytes. Memory grows with what
// has come, not with what the length promises.
func readText(r io.Reader, limit int) ([]byte, error) {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(b[:])
	if uint64(n) > uint64(limit) {
		return nil, fmt.Errorf("iperf3: a JSON text of %d bytes; the limit is %d", n, limit)
	}
	text, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(text) < int(n) {
		err = io.ErrUnexpectedEOF
	}
	return text, err
}

// Error is an error as the protocol knows it: what SERVER_ERROR carries.
type Error struct {
	Code  int   // iperf3's i_errno
	Errno int   // of the operating system, 0 for none
	Err   error // what more is known here; may be nil
}

// The codes that are used here.
const (
	codeOmit        = 12
	codeNumStreams  = 6
	codeBlockSize   = 7
	codeBufSize     = 8
	codeMSS         = 10
	codeDuration    = 5
	codeUnimp       = 13
	codeBurst       = 15
	codeUDPBlock    = 20
	codeReverseBoth = 25
	codeCtrlClose   = 109
	codeMessage     = 110
	codeRecvParams  = 114
	codeRecvResults = 117
	codeClientTerm  = 119
	codeServerTerm  = 120
	codeDenied      = 121
	codeProtocol    = 131
	codeAccept      = 204
	codeStreamWrite = 205
	codeStreamRead  = 206
)

var codeTexts = map[int]string{
	codeOmit:        "bogus value for --omit",
	codeNumStreams:  "number of parallel streams too large (maximum = 128)",
	codeBlockSize:   "block size too large (maximum = 1048576 bytes)",
	codeBufSize:     "socket buffer size too large (maximum = 536870912 bytes)",
	codeMSS:         "TCP MSS too large (maximum = 9216 bytes)",
	codeDuration:    "test duration too long (maximum = 86400 seconds)",
	codeUnimp:       "an option you are trying to set is not implemented yet",
	codeBurst:       "invalid burst count (maximum = 1000)",
	codeUDPBlock:    "block size invalid (minimum = 16 bytes, maximum = 65507 bytes)",
	codeReverseBoth: "cannot be both reverse and bidirectional",
	codeCtrlClose:   "control socket has closed unexpectedly",
	codeMessage:     "received an unknown control message",
	codeRecvParams:  "unable to receive parameters from client",
	codeRecvResults: "unable to receive results",
	codeClientTerm:  "the client has terminated",
	codeServerTerm:  "the server has terminated",
	codeDenied:      "the server is busy running a test. try again later",
	codeProtocol:    "protocol does not exist",
	codeAccept:      "unable to accept stream connection",
	codeStreamWrite: "unable to write to stream socket",
	codeStreamRead:  "unable to read from stream socket",
}

func (e *Error) Error() string {
	text := codeTexts[e.Code]
	if text == "" {
		text = fmt.Sprintf("error %d", e.Code)
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	} else if e.Errno != 0 {
		text += fmt.Sprintf(": errno %d", e.Errno)
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

func failed(code int, err error) error { return &Error{Code: code, Err: err} }

// writeError sends SERVER_ERROR with the numbers of e.
func writeError(w io.Writer, e *Error) error {
	b := []byte{byte(serverErrorByte)}
	b = binary.BigEndian.AppendUint32(b, uint32(e.Code))
	b = binary.BigEndian.AppendUint32(b, uint32(e.Errno))
	_, err := w.Write(b)
	return err
}

const serverErrorByte = 0xfe // serverError, unsigned

// readError receives the numbers behind SERVER_ERROR.
func readError(r io.Reader) *Error {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return &Error{Code: codeServerTerm}
	}
	return &Error{Code: int(int32(binary.BigEndian.Uint32(b[:]))), Errno: int(int32(binary.BigEndian.Uint32(b[4:])))}
}
