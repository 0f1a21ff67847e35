package sysbench

// reasons say why an operation is slower here than on Linux. Only what was found in
// the code or by a profile, and seen in a measured table, goes in.
var reasons = map[string]string{}

// unknown stands where an operation is slower and nobody has looked why.
const unknown = "slower, cause not looked into"

func reason(op string) string {
	if r := reasons[op]; r != "" {
		return r
	}
	return unknown
}
