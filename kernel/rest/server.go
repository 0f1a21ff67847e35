package rest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"osv/kernel/rest/machine"
	"osv/kernel/trace"
)

// How long a client may take. A transfer that makes progress has its deadlines moved.
const (
	headerTimeout = 10 * time.Second // from the first byte to the end of the headers
	readTimeout   = 30 * time.Second // to the end of the body
	writeTimeout  = 60 * time.Second // from the headers to the end of the answer
	idleTimeout   = 60 * time.Second // between two requests
	drainTimeout  = 3 * time.Second  // for running requests, when the server ends
)

// maxHeader is what net/http is told; it takes 4 KiB more.
const maxHeader = 4 << 10

// Config is what a server is made of.
type Config struct {
	Options
	Machine machine.Machine
	// ReadFile reads certificates and keys by the names that Options has.
	ReadFile func(name string) ([]byte, error)
	// CertFile is where, among the machine's files, a certificate that the server makes
	// is kept with its key; "": it lasts as long as the server.
	CertFile string
	// Log says that SIGPROF arrives, so that the runtime's own profile of processor
	// time works; else the sampler stands in.
	ProfileTimer bool
}

// Server answers the API. Make one with New.
type Server struct {
	cfg    Config
	m      machine.Machine
	doc    *document
	router *router
	http   http.Server
	tls    *tls.Config
	guard  guard

	maxUpload int64
	sampler   sampler
	profiling sync.Mutex // one profile at a time
	stacks    stackCache
	counting  counting

	done     chan struct{} // closed when the server begins to end
	ended    sync.Once
	over     chan struct{} // closed when it has ended
	inFlight atomic.Int64
	refused  refusals
}

// refusals counts what never reached a handler, by reason.
type refusals struct {
	conns, clientConns, host, origin, rate, auth atomic.Uint64
}

// operationStats counts an operation's answers by class of status, 1xx to 5xx.
type operationStats struct{ classes [6]atomic.Uint64 }

// New makes a server. An error names the option that is wrong.
func New(cfg Config) (*Server, error) {
	if cfg.Machine.System == nil || cfg.Machine.Hardware == nil {
		return nil, errors.New("rest: the machine has no system or hardware to tell of")
	}
	s := &Server{cfg: cfg, m: cfg.Machine, done: make(chan struct{}), over: make(chan struct{})}
	doc, ops, err := parseSpec(openapiJSON)
	if err != nil {
		return nil, err
	}
	s.doc = doc
	if s.router, err = newRouter(ops, s.handlers()); err != nil {
		return nil, err
	}
	if s.guard, err = newGuard(cfg.Options, s.m.System.Hostname); err != nil {
		return nil, err
	}
	if s.tls, err = tlsConfig(cfg); err != nil {
		return nil, err
	}
	s.maxUpload = cfg.MaxUpload
	if s.maxUpload == 0 {
		s.maxUpload = min(64<<20, int64(s.m.System.Memory().Total/8))
	}
	if cfg.Token != "" && s.tls == nil {
		log.Warnf("the token travels in the clear: without --rest-tls anybody on the way can read it")
	}
	s.http = http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          stdlog.New(logWriter{}, "", 0),
		Protocols:         new(http.Protocols),
	}
	s.http.Protocols.SetHTTP1(true) // one request of a connection at a time
	return s, nil
}

// logWriter takes net/http's complaints about clients, which are too many for a log
// that somebody else is to read.
type logWriter struct{}

func (logWriter) Write(p []byte) (int, error) {
	log.Debugf("%s", p)
	return len(p), nil
}

// Serve answers on l until Shutdown or POST /api/stop, and returns once all requests
// that ran are answered. It closes l.
func (s *Server) Serve(l net.Listener) error {
	l = s.limit(l)
	if s.tls != nil {
		l = tls.NewListener(l, s.tls)
	}
	err := s.http.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-s.over
		return nil
	}
	return fmt.Errorf("rest: %w", err)
}

// Done is closed when the server begins to end.
func (s *Server) Done() <-chan struct{} { return s.done }

// Machine is what the server tells of: for others who serve it in another way.
func (s *Server) Machine() machine.Machine { return s.m }

// Shutdown ends the server: no more connections, running requests are answered until
// ctx ends. Any number of goroutines may call it.
func (s *Server) Shutdown(ctx context.Context) error {
	s.ended.Do(func() {
		close(s.done)
		s.sampler.stop()
		if err := s.http.Shutdown(ctx); err != nil {
			s.http.Close()
		}
		close(s.over)
	})
	select {
	case <-s.over:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// end ends the server, then does what is to be done then.
func (s *Server) end(then func()) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	s.Shutdown(ctx)
	if then != nil {
		then()
	}
}

// Call makes a request from within, with all rights but those that read-only mode
// takes away: for what the machine's own configuration asks for. target is path and
// query; the answer is bounded as in a batch.
func (s *Server) Call(ctx context.Context, method, target, ctype string, body io.Reader) (code int, answer []byte) {
	return s.inner(ctx, method, target, ctype, body)
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.inFlight.Add(1)
	defer s.inFlight.Add(-1)
	rec := &recorder{ResponseWriter: w}
	c := &call{s: s, w: rec, r: r}
	setHeaders(rec.Header(), s.tls != nil)
	err := s.admit(c)
	if err == nil {
		err = s.run(c)
	}
	s.finish(c, rec, err)
	if c.then != nil && err == nil {
		http.NewResponseController(w).Flush()
		go s.end(c.then)
	}
}

// admit passes a request through the guard and finds its operation.
func (s *Server) admit(c *call) error {
	if err := s.guard.check(s, c.r); err != nil {
		return err
	}
	rt, values, err := s.router.find(c.r.URL.EscapedPath())
	if err != nil {
		return err
	}
	if rt == nil {
		return errorf(404, "there is no %s", c.r.URL.Path)
	}
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	c.op = rt.methods[method]
	switch {
	case method == http.MethodOptions:
		c.w.Header().Set("Allow", rt.allow)
		s.guard.preflight(c.w.Header(), c.r, rt.allow)
		c.op = optionsCall
		return nil
	case c.op == nil:
		c.w.Header().Set("Allow", rt.allow)
		return errorf(405, "%s takes %s, not %s", rt.path, rt.allow, c.r.Method)
	}
	s.guard.allowOrigin(c.w.Header(), c.r)
	if c.op.access != public {
		if err := s.guard.origin(s, c.r); err != nil {
			return err
		}
		if err := s.authorize(c.r, c.op.access); err != nil {
			return err
		}
	}
	limit := int64(maxBody)
	if c.op.OperationID == "upload" || c.op.OperationID == "putFile" {
		limit = s.maxUpload + multipartSlack
	}
	if c.r.ContentLength > limit {
		return errorf(413, "the body has %d bytes, %d at most are taken", c.r.ContentLength, limit)
	}
	c.r.Body = http.MaxBytesReader(c.w, c.r.Body, limit)
	return c.prepare(values)
}

// optionsCall is what OPTIONS calls, on any path.
var optionsCall = &bound{operation: &operation{OperationID: "OPTIONS"}, stats: new(operationStats), serve: func(c *call) error {
	c.w.WriteHeader(http.StatusNoContent)
	return nil
}}

// run calls the handler. A panic costs the request only.
func (s *Server) run(c *call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if p == http.ErrAbortHandler {
				panic(p)
			}
			log.Errorf("%s: panic: %v", c.op.OperationID, p)
			err = errorf(500, "%s failed", c.op.OperationID)
		}
	}()
	if c.op.access == change && s.cfg.ReadOnly {
		return errorf(403, "this server is read-only")
	}
	return c.op.serve(c)
}

// finish sends an error and counts the answer.
func (s *Server) finish(c *call, rec *recorder, err error) {
	if err != nil && !errors.Is(err, errGone) && rec.status == 0 {
		e := asError(err)
		h := rec.Header()
		for _, k := range []string{"Content-Encoding", "Content-Disposition", "Content-Length", "ETag", "Cache-Control"} {
			h.Del(k)
		}
		switch e.Code {
		case 401:
			h.Set("WWW-Authenticate", `Bearer realm="osv"`)
		case 413, 414, 429:
			h.Set("Connection", "close") // the rest of the body is not read
		}
		if e.retryAfter > 0 {
			h.Set("Retry-After", strconv.Itoa(e.retryAfter))
		}
		rec.WriteHeader(e.Code)
		(&call{w: headless{rec}, r: c.r}).json(e)
	}
	if c.op != nil {
		c.op.stats.classes[min(rec.status/100, 5)].Add(1)
	}
	if err != nil && evRefused.On() {
		evRefused.Emit(uint64(asError(err).Code))
	}
}

var evRefused = trace.NewPoint("rest.refused", "status %d")

// headless keeps json from setting a length after the status is out.
type headless struct{ *recorder }

func (h headless) Header() http.Header { return http.Header{} }

// recorder remembers the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(code int) {
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// setHeaders sets what every answer has: nothing may be guessed, framed or loaded
// from elsewhere. Styles may be inline, since Swagger UI's are.
func setHeaders(h http.Header, secure bool) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox; frame-ancestors 'none'")
	if secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}
