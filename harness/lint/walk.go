package lint

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// files returns the files of the tree that a person wrote, as slash-separated
// paths relative to dir, sorted: not what is generated (build, results), not
// test data, nothing hidden.
func files(dir string) ([]string, error) {
	var out []string
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			if os.IsNotExist(err) {
				return nil // went away meanwhile
			}
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		base := path.Base(rel)
		if d.IsDir() {
			if rel != "." && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || rel == "build" || rel == "results") {
				return fs.SkipDir
			}
			return nil
		}
		if d.Type().IsRegular() {
			out = append(out, rel)
		}
		return nil
	})
	return out, err
}

func read(dir, file string) ([]byte, error) {
	return os.ReadFile(filepath.Join(dir, filepath.FromSlash(file)))
}

func goFiles(dir string) ([]string, error) {
	all, err := files(dir)
	var out []string
	for _, f := range all {
		if strings.HasSuffix(f, ".go") {
			out = append(out, f)
		}
	}
	return out, err
}
