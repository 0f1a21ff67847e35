// Package guestapi speaks to a running guest by its REST API (kernel/rest/openapi.json in
// a guest; this package knows only what it sends and reads).
//
// Who may use it: capstan's commands, the harness. Errors name the address and what the
// guest said. Start reading at Client.
package guestapi

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client is one guest. Its fields are set before use.
type Client struct {
	Base  string // "http://127.0.0.1:8000"
	Token string // "" = none
	// Insecure takes any certificate: guests make their own.
	Insecure bool
	// Transport replaces the host's network; nil = that.
	Transport http.RoundTripper
}

// Port is where a guest's API answers.
const Port = 8000

// Error is what a guest answered instead of doing it.
type Error struct {
	URL     string
	Status  int
	Message string
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %d %s", e.URL, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
		s += " (--token, CAPSTAN_TOKEN)"
	}
	return s
}

// timeout bounds one request.
const timeout = 20 * time.Second

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 20

// Do makes a request and returns the body of its answer.
func (c *Client) Do(ctx context.Context, method, path string, params url.Values) ([]byte, error) {
	u := strings.TrimSuffix(c.Base, "/") + path
	if len(params) > 0 {
		u += "?" + params.Encode()
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u, nil)
	if err != nil {
		return nil, err
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	t := c.Transport
	if t == nil {
		d := http.DefaultTransport.(*http.Transport).Clone()
		d.Proxy = nil // a guest is near
		d.TLSClientConfig = &tls.Config{InsecureSkipVerify: c.Insecure}
		defer d.CloseIdleConnections()
		t = d
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, fmt.Errorf("%s: %w", c.Base, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w", u, err)
	case len(b) > maxAnswer:
		return nil, fmt.Errorf("%s: an answer of more than %d bytes", u, maxAnswer)
	case resp.StatusCode/100 != 2:
		var m struct{ Message string }
		if json.Unmarshal(b, &m) != nil {
			m.Message = strings.TrimSpace(string(b[:min(len(b), 200)]))
		}
		return nil, &Error{URL: strings.TrimSuffix(c.Base, "/") + path, Status: resp.StatusCode, Message: m.Message}
	}
	return b, nil
}

// JSON makes a request and decodes its answer into v.
func (c *Client) JSON(ctx context.Context, method, path string, params url.Values, v any) error {
	b, err := c.Do(ctx, method, path, params)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s%s: not the JSON that was expected: %w", c.Base, path, err)
	}
	return nil
}

// Thread is a row of /os/threads. A nil field is not known.
type Thread struct {
	ID       int64  `json:"id"`
	Name     string `json:"name"`
	Status   string `json:"status"`
	CPU      *int64 `json:"cpu"`
	CPUms    *int64 `json:"cpu_ms"`
	Switches *int64 `json:"switches"`
}

// Processor is a row of /hardware/processors: milliseconds since boot.
type Processor struct {
	ID     int64 `json:"id"`
	BusyMS int64 `json:"busy_ms"`
	IdleMS int64 `json:"idle_ms"`
}

// Memory is /os/memory, in bytes.
type Memory struct {
	Total uint64 `json:"total"`
	Free  uint64 `json:"free"`
}

// Channels is how frames of an interface took their way.
type Channels struct {
	Name       string
	Fast, Slow uint64
	Reasons    map[string]uint64
}

// Threads lists the guest's threads.
func (c *Client) Threads(ctx context.Context) ([]Thread, error) {
	var v struct {
		List []Thread `json:"list"`
	}
	err := c.JSON(ctx, http.MethodGet, "/os/threads", nil, &v)
	return v.List, err
}

// Processors lists the guest's processors.
func (c *Client) Processors(ctx context.Context) ([]Processor, error) {
	var v []Processor
	err := c.JSON(ctx, http.MethodGet, "/hardware/processors", nil, &v)
	return v, err
}

// Memory reads the guest's memory.
func (c *Client) Memory(ctx context.Context) (Memory, error) {
	var v Memory
	err := c.JSON(ctx, http.MethodGet, "/os/memory", nil, &v)
	return v, err
}

// Channels reads the counters of net channels of all interfaces.
func (c *Client) Channels(ctx context.Context) ([]Channels, error) {
	var v []struct {
		Config struct {
			Name string `json:"name"`
		} `json:"config"`
		Channels *struct {
			Fast    uint64            `json:"fast"`
			Slow    uint64            `json:"slow"`
			Reasons map[string]uint64 `json:"reasons"`
		} `json:"channels"`
	}
	if err := c.JSON(ctx, http.MethodGet, "/network/ifconfig", nil, &v); err != nil {
		return nil, err
	}
	var out []Channels
	for _, i := range v {
		if i.Channels != nil {
			out = append(out, Channels{i.Config.Name, i.Channels.Fast, i.Channels.Slow, i.Channels.Reasons})
		}
	}
	return out, nil
}

// Uptime is the time since the guest booted.
func (c *Client) Uptime(ctx context.Context) (time.Duration, error) {
	var s float64
	err := c.JSON(ctx, http.MethodGet, "/os/uptime", nil, &s)
	return time.Duration(s * float64(time.Second)), err
}

// Log is what the guest's kernel and programs have printed.
func (c *Client) Log(ctx context.Context) (string, error) {
	b, err := c.Do(ctx, http.MethodGet, "/os/dmesg", nil)
	if err != nil {
		return "", err
	}
	var s string
	if json.Unmarshal(b, &s) == nil {
		return s, nil
	}
	return string(b), nil
}

// Run starts a program and returns its number.
func (c *Client) Run(ctx context.Context, command string) (string, error) {
	var id string
	err := c.JSON(ctx, http.MethodPut, "/app", url.Values{"command": {command}}, &id)
	return id, err
}

// Finished says whether a program has ended.
func (c *Client) Finished(ctx context.Context, id string) (bool, error) {
	var yes string
	err := c.JSON(ctx, http.MethodGet, "/app/finished", url.Values{"tid": {id}}, &yes)
	return yes == "true", err
}
