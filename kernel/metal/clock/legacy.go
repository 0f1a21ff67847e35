package clock

import "osv/kernel/metal/arch"

// 8254 PIT, counter 0 (data sheet, "Programming the 82C54").
const (
	pitCounter0 = 0x40
	pitControl  = 0x43
	pitHz       = 1193182
	pitMode2    = 0x34 // counter 0, low then high byte, mode 2, binary
	pitLatch0   = 0x00
)

// fromPIT times the TSC against PIT counter 0. It reads the counter itself, since
// microvm has no port 0x61 to gate counter 2 with.
//
// A host that stops the vCPU for longer than the 55 ms in which the counter wraps
// makes the rate come out too high, never too low. So windows are measured until
// the two lowest agree, and the lowest counts.
func fromPIT() (uint64, Source) {
	arch.Out8(pitControl, pitMode2)
	arch.Out8(pitCounter0, 0xff)
	arch.Out8(pitCounter0, 0xff)
	lowest, second := ^uint64(0), ^uint64(0)
	for try := 0; try < pitTries; try++ {
		f := window()
		switch {
		case f == 0:
			return 0, 0
		case f < lowest:
			lowest, second = f, lowest
		case f < second:
			second = f
		}
		if try > 0 && second-lowest < lowest/pitAgree {
			break
		}
	}
	return lowest, FromPIT
}

const (
	pitWindow = pitHz / 200 // 5 ms
	pitTries  = 12
	pitAgree  = 1000 // two windows agree within a thousandth
)

// window measures the TSC's rate once, 0 where the counter stands still.
func window() uint64 {
	c0, t0, ok := readPIT()
	for tries := 0; ok && tries < 100000; tries++ {
		var c1 uint16
		var t1 uint64
		c1, t1, ok = readPIT()
		if n := uint64(c0-c1) & 0xffff; n >= pitWindow {
			return (t1 - t0) * pitHz / n
		}
	}
	return 0
}

// readPIT returns the counter and the TSC at the moment it was latched, choosing
// of a few tries the one whose latch took least time.
func readPIT() (count uint16, tsc uint64, ok bool) {
	best := ^uint64(0)
	for i := 0; i < 4; i++ {
		a := arch.ReadTSC()
		arch.Out8(pitControl, pitLatch0)
		b := arch.ReadTSC()
		lo := arch.In8(pitCounter0)
		hi := arch.In8(pitCounter0)
		if b-a < best {
			best, tsc, count = b-a, a+(b-a)/2, uint16(hi)<<8|uint16(lo)
		}
	}
	return count, tsc, count != 0xffff || best == ^uint64(0)
}

// MC146818 real-time clock.
const (
	rtcIndex   = 0x70
	rtcData    = 0x71
	rtcStatusA = 0x0a
	rtcStatusB = 0x0b
	rtcUIP     = 1 << 7 // status A: update in progress
	rtc24h     = 1 << 1 // status B
	rtcBinary  = 1 << 2
)

func rtc(reg uint8) uint64 {
	arch.Out8(rtcIndex, reg)
	return uint64(arch.In8(rtcData))
}

// readRTC returns Unix seconds, 0 where there is no clock chip or it holds
// nonsense. Two equal readings in a row rule out a torn one.
func readRTC() uint64 {
	if rtc(rtcStatusA) == 0xff {
		return 0
	}
	prev := uint64(0)
	for tries := 0; tries < 16; tries++ {
		for n := 0; rtc(rtcStatusA)&rtcUIP != 0 && n < 100000; n++ {
			arch.Pause()
		}
		b := rtc(rtcStatusB)
		t := rtcTime(b, rtc(0), rtc(2), rtc(4), rtc(7), rtc(8), rtc(9))
		if t == prev {
			return t // also where it is 0: nonsense
		}
		prev = t
	}
	return 0
}

// rtcTime makes Unix seconds of the chip's registers, read with status B; 0 of
// nonsense.
func rtcTime(statusB, s, m, h, d, mon, y uint64) uint64 {
	pm := h&0x80 != 0
	h &^= 0x80
	if statusB&rtcBinary == 0 {
		s, m, h, d, mon, y = bcd(s), bcd(m), bcd(h), bcd(d), bcd(mon), bcd(y)
	}
	if statusB&rtc24h == 0 {
		h %= 12
		if pm {
			h += 12
		}
	}
	if s > 60 || m > 59 || h > 23 || d == 0 || d > 31 || mon == 0 || mon > 12 || y > 99 {
		return 0
	}
	return daysSinceEpoch(2000+y, mon, d)*86400 + h*3600 + m*60 + s
}

func bcd(v uint64) uint64 { return v>>4*10 + v&15 }

// daysSinceEpoch counts days from 1970-01-01 in the Gregorian calendar, y ≥ 2000.
func daysSinceEpoch(y, m, d uint64) uint64 {
	if m <= 2 {
		y--
		m += 12
	}
	return 365*y + y/4 - y/100 + y/400 + (153*(m-3)+2)/5 + d - 1 - 719468
}
