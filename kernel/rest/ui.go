package rest

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/hex"
	"io"
	"io/fs"
	"mime"
	"path"
	"strings"
	"sync"

	"crypto/sha256"

	swagger "github.com/swaggest/swgui/v5/static"
)

// The pages: our own files and Swagger UI's, which its module packs with gzip. All
// of it is in the image; nothing is loaded from elsewhere.
//
//go:embed ui
var uiFiles embed.FS

// assets are the files of /ui by name.
type asset struct {
	b      []byte
	packed bool // with gzip
	ctype  string
	etag   string
}

// assets are all files of the pages.
var assets = sync.OnceValue(func() map[string]asset {
	out := map[string]asset{}
	add := func(f fs.FS, dir, file string) {
		b, err := fs.ReadFile(f, path.Join(dir, file))
		if err != nil {
			return // in neither file system: the tests look for each
		}
		name, packed := strings.CutSuffix(file, ".gz")
		ctype := mime.TypeByExtension(path.Ext(name))
		if t := types[path.Ext(name)]; t != "" {
			ctype = t // what the host says of types is not for us
		}
		sum := sha256.Sum256(b)
		out[name] = asset{b, packed, ctype, `"` + hex.EncodeToString(sum[:8]) + `"`}
	}
	for _, f := range []string{"swagger-ui-bundle.js.gz", "swagger-ui.css.gz", "favicon-32x32.png"} {
		add(swagger.FS, ".", f)
	}
	own, _ := uiFiles.ReadDir("ui")
	for _, f := range own {
		add(uiFiles, "ui", f.Name())
	}
	return out
})

var types = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
	".png": "image/png", ".svg": "image/svg+xml",
}

// pagePolicy lets a page load what is on this server only. Swagger UI styles its
// elements in place, and its style sheet has pictures within.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

func uiPage(name string) func(*call) error {
	return func(c *call) error {
		c.w.Header().Set("Content-Security-Policy", pagePolicy)
		return sendAsset(c, name)
	}
}

func uiAsset(c *call) error {
	name := c.arg("asset")
	if strings.HasSuffix(name, ".html") {
		return errorf(404, "there is no %s", name)
	}
	return sendAsset(c, name)
}

func uiFavicon(c *call) error { return sendAsset(c, "favicon-32x32.png") }

func sendAsset(c *call, name string) error {
	a, ok := assets()[name]
	if !ok {
		return errorf(404, "there is no %s", name)
	}
	h := c.w.Header()
	h.Set("Cache-Control", "no-cache") // ask whether it has changed
	h.Set("ETag", a.etag)
	if c.r.Header.Get("If-None-Match") == a.etag {
		c.w.WriteHeader(304)
		return nil
	}
	b := a.b
	if a.packed {
		h.Set("Vary", "Accept-Encoding")
		if strings.Contains(c.r.Header.Get("Accept-Encoding"), "gzip") {
			h.Set("Content-Encoding", "gzip")
		} else {
			z, err := gzip.NewReader(bytes.NewReader(b))
			if err != nil {
				return err
			}
			if b, err = io.ReadAll(z); err != nil {
				return err
			}
		}
	}
	return c.bytes(a.ctype, b)
}
