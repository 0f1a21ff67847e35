package proto

// Base64 as upstream reads it (flag b of the meta commands): bytes outside the
// alphabet are skipped, the rest must come in fours, and the first padding ends
// the key. encoding/base64 is stricter.

const base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

var base64Value = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i := range len(base64Digits) {
		t[base64Digits[i]] = byte(i)
	}
	t['='] = 0
	return
}()

// decodeBase64 decodes src into dst, which must hold len(src)/4*3 bytes, and
// returns the number of bytes, 0 where src is not base64.
func decodeBase64(dst, src []byte) int {
	count := 0
	for _, c := range src {
		if base64Value[c] != 0xff {
			count++
		}
	}
	if count == 0 || count%4 != 0 {
		return 0
	}
	n, bits, got, pad := 0, uint32(0), 0, 0
	for _, c := range src {
		v := base64Value[c]
		if v == 0xff {
			continue
		}
		if c == '=' {
			pad++
		}
		bits = bits<<6 | uint32(v)
		if got++; got < 4 {
			continue
		}
		dst[n], dst[n+1], dst[n+2] = byte(bits>>16), byte(bits>>8), byte(bits)
		n += 3
		bits, got = 0, 0
		switch pad {
		case 0:
		case 1, 2:
			return n - pad
		default:
			return 0
		}
	}
	return n
}

// appendBase64 appends src in base64.
func appendBase64(b, src []byte) []byte {
	for ; len(src) >= 3; src = src[3:] {
		v := uint32(src[0])<<16 | uint32(src[1])<<8 | uint32(src[2])
		b = append(b, base64Digits[v>>18], base64Digits[v>>12&63], base64Digits[v>>6&63], base64Digits[v&63])
	}
	switch len(src) {
	case 1:
		v := uint32(src[0]) << 16
		b = append(b, base64Digits[v>>18], base64Digits[v>>12&63], '=', '=')
	case 2:
		v := uint32(src[0])<<16 | uint32(src[1])<<8
		b = append(b, base64Digits[v>>18], base64Digits[v>>12&63], base64Digits[v>>6&63], '=')
	}
	return b
}
