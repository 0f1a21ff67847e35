package iperf3

import (
	"encoding/json"
	"fmt"
)

// Results are what one end tells the other when the test is over.
type Results struct {
	CPU         [3]float64 // percent of the elapsed time: all, user, system
	Retransmits int        // 1: those of the sender are known, 0: they are not, -1: it sends nothing
	Congestion  string
	Streams     []StreamResults
	OutputText  string          // what the server printed, if asked for
	OutputJSON  json.RawMessage // likewise, of a server that prints JSON
}

// StreamResults are one stream's.
type StreamResults struct {
	ID          int
	Bytes       uint64 // without the omitted part
	Retransmits int64
	Jitter      float64 // seconds
	Errors      int64   // datagrams lost, the omitted part included
	Packets     int64   // datagrams, the omitted part included
	// The omitted part of both; from 3.13 on.
	OmittedErrors, OmittedPackets int64
	Omits                         bool // the two are known
	Start, End                    float64
}

type wireResults struct {
	CPUTotal    *number              `json:"cpu_util_total"`
	CPUUser     *number              `json:"cpu_util_user"`
	CPUSystem   *number              `json:"cpu_util_system"`
	Retransmits *number              `json:"sender_has_retransmits"`
	Congestion  *string              `json:"congestion_used,omitempty"`
	OutputText  *string              `json:"server_output_text,omitempty"`
	OutputJSON  json.RawMessage      `json:"server_output_json,omitempty"`
	Streams     *[]wireStreamResults `json:"streams"`
}

type wireStreamResults struct {
	ID             *number `json:"id"`
	Bytes          *number `json:"bytes"`
	Retransmits    *number `json:"retransmits"`
	Jitter         *number `json:"jitter"`
	Errors         *number `json:"errors"`
	OmittedErrors  *number `json:"omitted_errors,omitempty"`
	Packets        *number `json:"packets"`
	OmittedPackets *number `json:"omitted_packets,omitempty"`
	Start          *number `json:"start_time,omitempty"`
	End            *number `json:"end_time,omitempty"`
}

func num[T int | int64 | uint64 | float64](v T) *number {
	n := number(v)
	return &n
}

// MarshalJSON makes the text that goes over the wire.
func (r Results) MarshalJSON() ([]byte, error) {
	ss := make([]wireStreamResults, len(r.Streams))
	for i, s := range r.Streams {
		ss[i] = wireStreamResults{
			ID: num(s.ID), Bytes: num(s.Bytes), Retransmits: num(s.Retransmits), Jitter: num(s.Jitter),
			Errors: num(s.Errors), Packets: num(s.Packets), Start: num(s.Start), End: num(s.End),
		}
		if s.Omits {
			ss[i].OmittedErrors, ss[i].OmittedPackets = num(s.OmittedErrors), num(s.OmittedPackets)
		}
	}
	return json.Marshal(wireResults{
		CPUTotal: num(r.CPU[0]), CPUUser: num(r.CPU[1]), CPUSystem: num(r.CPU[2]),
		Retransmits: num(r.Retransmits), Congestion: optional(r.Congestion),
		OutputText: optional(r.OutputText), OutputJSON: r.OutputJSON, Streams: &ss,
	})
}

// parseResults reads the peer's results. What iperf3 insists on must be there.
func parseResults(text []byte) (Results, error) {
	var w wireResults
	if err := json.Unmarshal(text, &w); err != nil {
		return Results{}, failed(codeRecvResults, err)
	}
	missing := func(name string, ps ...*number) error {
		for _, p := range ps {
			if p == nil {
				return failed(codeRecvResults, fmt.Errorf("%s is missing", name))
			}
		}
		return nil
	}
	if err := missing("a cpu_util or sender_has_retransmits", w.CPUTotal, w.CPUUser, w.CPUSystem, w.Retransmits); err != nil {
		return Results{}, err
	}
	if w.Streams == nil {
		return Results{}, failed(codeRecvResults, fmt.Errorf("streams is missing"))
	}
	if len(*w.Streams) > 2*maxStreams {
		return Results{}, failed(codeRecvResults, fmt.Errorf("%d streams", len(*w.Streams)))
	}
	r := Results{
		CPU:         [3]float64{float64(*w.CPUTotal), float64(*w.CPUUser), float64(*w.CPUSystem)},
		Retransmits: int(w.Retransmits.clamp(-1, 1)), Congestion: value(w.Congestion),
		OutputText: value(w.OutputText), OutputJSON: w.OutputJSON,
	}
	for _, s := range *w.Streams {
		if err := missing("a number of a stream", s.ID, s.Bytes, s.Retransmits, s.Jitter, s.Errors, s.Packets); err != nil {
			return Results{}, err
		}
		out := StreamResults{
			ID: int(s.ID.clamp(-1, huge)), Bytes: uint64(s.Bytes.clamp(0, huge)), Retransmits: s.Retransmits.clamp(-1, huge),
			Jitter: float64(*s.Jitter), Errors: s.Errors.clamp(-huge, huge), Packets: s.Packets.clamp(-huge, huge),
		}
		if s.OmittedErrors != nil && s.OmittedPackets != nil {
			out.Omits = true
			out.OmittedErrors, out.OmittedPackets = s.OmittedErrors.clamp(0, huge), s.OmittedPackets.clamp(0, huge)
		}
		if s.Start != nil && s.End != nil {
			out.Start, out.End = float64(*s.Start), float64(*s.End)
		}
		r.Streams = append(r.Streams, out)
	}
	return r, nil
}
