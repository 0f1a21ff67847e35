package main

import (
	"context"

	"osv/capstan/remote"
	"osv/capstan/repo"
)

// named is a repository in which the image is called otherwise than here: its name
// here has the registry in front.
type named struct {
	remote.Repository
	there repo.Ref
}

// Find looks the image up under its name there.
func (n named) Find(ctx context.Context, _ repo.Ref) (*remote.Found, error) {
	return n.Repository.Find(ctx, n.there)
}
