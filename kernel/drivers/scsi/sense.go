package scsi

import (
	"encoding/binary"
	"fmt"

	"osv/kernel/blk"
)

// Sense keys, SPC-4 table 48.
const (
	keyNoSense        = 0x0
	keyRecovered      = 0x1
	keyNotReady       = 0x2
	keyMediumError    = 0x3
	keyHardwareError  = 0x4
	keyIllegalRequest = 0x5
	keyUnitAttention  = 0x6
	keyDataProtect    = 0x7
	keyAbortedCommand = 0xb
	keyCompleted      = 0xf
)

var keyNames = [16]string{"no sense", "recovered error", "not ready", "medium error", "hardware error", "illegal request",
	"unit attention", "data protect", "blank check", "vendor specific", "copy aborted", "aborted command", "reserved",
	"volume overflow", "miscompare", "completed"}

// Additional sense codes: code in the upper byte, qualifier in the lower.
const (
	ascBecomingReady    = 0x0401
	ascNeedsStart       = 0x0402
	ascOpcode           = 0x2000
	ascRange            = 0x2100
	ascNoUnit           = 0x2500
	ascSpaceAllocation  = 0x2707
	ascCapacityChanged  = 0x2a09
	ascLUNsChanged      = 0x3f0e
	ascInquiryChanged   = 0x3f03
	ascCodeWriteProtect = 0x27
	ascCodeReset        = 0x29
)

// sense is what sense data says, in either format.
type sense struct {
	key      byte
	code     uint16 // additional sense code and qualifier
	info     uint64 // of the INFORMATION field: for a medium error, the block
	hasInfo  bool
	deferred bool // it is of an earlier command
}

func (s sense) String() string {
	t := fmt.Sprintf("%s, ASC %02xh/%02xh", keyNames[s.key&15], s.code>>8, s.code&0xff)
	if s.hasInfo {
		t += fmt.Sprintf(", information %d", s.info)
	}
	if s.deferred {
		t += ", deferred"
	}
	return t
}

// parseSense reads fixed and descriptor format, SPC-4 §4.5.2 and §4.5.3. It reports
// false where b is neither.
func parseSense(b []byte) (s sense, ok bool) {
	if len(b) < 1 {
		return s, false
	}
	format := b[0] & 0x7f
	s.deferred = format&1 != 0
	switch format {
	case 0x70, 0x71:
		if len(b) < 3 {
			return s, false
		}
		s.key = b[2] & 15
		if b[0]&0x80 != 0 && len(b) >= 7 {
			s.info, s.hasInfo = uint64(binary.BigEndian.Uint32(b[3:])), true
		}
		if len(b) >= 8 {
			b = b[:min(len(b), 8+int(b[7]))]
		}
		if len(b) >= 14 {
			s.code = binary.BigEndian.Uint16(b[12:])
		} else if len(b) == 13 {
			s.code = uint16(b[12]) << 8
		}
		return s, true
	case 0x72, 0x73:
		if len(b) < 4 {
			return s, false
		}
		s.key, s.code = b[1]&15, binary.BigEndian.Uint16(b[2:])
		if len(b) < 8 {
			return s, true
		}
		for d := b[8:min(len(b), 8+int(b[7]))]; len(d) >= 2; {
			n := 2 + int(d[1])
			if n > len(d) {
				break
			}
			if d[0] == 0 && n >= 12 && d[2]&0x80 != 0 { // information, §4.5.2.2
				s.info, s.hasInfo = binary.BigEndian.Uint64(d[4:]), true
			}
			d = d[n:]
		}
		return s, true
	}
	return s, false
}

// verdict is what to do about a command that has ended.
type verdict uint8

const (
	ok verdict = iota
	again
	later // again, after a pause
	failed
)

// judgement is a verdict with its reasons: why is one of blk's.
type judgement struct {
	verdict
	why    error
	detail string
	sense  sense // where it was a CHECK CONDITION
}

// judge says what became of a command. It does not count how often it was tried.
func (r *Result) judge() judgement {
	switch r.Host {
	case HostOK:
	case HostNoTarget, HostNoUnit:
		return judgement{verdict: failed, why: blk.ErrGone, detail: r.Host.String()}
	case HostAborted, HostReset:
		return judgement{verdict: again, why: blk.ErrReset, detail: r.Host.String()}
	case HostBusy:
		return judgement{verdict: later, why: blk.ErrIO, detail: r.Host.String()}
	case HostOverrun:
		return judgement{verdict: failed, why: blk.ErrProtocol, detail: r.Host.String()}
	case HostGone:
		return judgement{verdict: failed, why: r.Err}
	default:
		return judgement{verdict: failed, why: blk.ErrIO, detail: fmt.Sprint(r.Host, ": ", r.Err)}
	}
	switch r.Status {
	case Good, ConditionMet:
		return judgement{}
	case CheckCondition:
		return r.judgeSense()
	case Busy:
		return judgement{verdict: later, why: blk.ErrIO, detail: "unit is busy"}
	case TaskSetFull:
		return judgement{verdict: later, why: blk.ErrIO, detail: "task set is full"}
	case TaskAborted:
		return judgement{verdict: again, why: blk.ErrReset, detail: "task aborted"}
	case ReservationConflict:
		return judgement{verdict: failed, why: blk.ErrIO, detail: "reservation conflict"}
	}
	return judgement{verdict: failed, why: blk.ErrIO, detail: fmt.Sprintf("status %02xh", uint8(r.Status))}
}

func (r *Result) judgeSense() judgement {
	s, known := parseSense(r.Sense[:min(max(r.SenseLen, 0), SenseBytes)])
	if !known {
		return judgement{verdict: failed, why: blk.ErrIO, detail: "check condition without sense data"}
	}
	j := judgement{verdict: failed, why: blk.ErrIO, sense: s}
	switch {
	case s.deferred: // of an earlier write: this command was not carried out
		j.verdict = again
	case s.key == keyNoSense, s.key == keyRecovered, s.key == keyCompleted:
		return judgement{sense: s}
	case s.key == keyUnitAttention, s.key == keyAbortedCommand:
		j.verdict = again
	case s.key == keyNotReady && s.code == ascBecomingReady:
		j.verdict = later
	case s.key == keyDataProtect && s.code>>8 == ascCodeWriteProtect && s.code != ascSpaceAllocation:
		j.why = blk.ErrReadOnly
	case s.key == keyIllegalRequest && s.code == ascRange:
		j.why = blk.ErrRange
	case s.key == keyIllegalRequest && s.code == ascNoUnit:
		j.why = blk.ErrGone
	case s.key == keyIllegalRequest:
		j.why = blk.ErrUnsupported
	}
	j.detail = s.String()
	return j
}
