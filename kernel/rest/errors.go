package rest

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"syscall"

	"osv/kernel/rest/machine"
)

// Error is what a client is told of a request that did not work: the document's
// model Error.
type Error struct {
	Code    int    `json:"code"` // the HTTP status
	Message string `json:"message"`

	retryAfter int // seconds, with 429 and 503; 0: not said
}

func (e *Error) Error() string { return e.Message }

func errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// asError finds the status of an error.
func asError(err error) *Error {
	var e *Error
	var tooBig *http.MaxBytesError
	switch {
	case errors.As(err, &e):
		return e
	case errors.As(err, &tooBig):
		return errorf(413, "the body has more than %d bytes", tooBig.Limit)
	}
	code := 500
	switch {
	case errors.Is(err, machine.ErrUnavailable):
		code = 503
	case errors.Is(err, fs.ErrNotExist):
		code = 404
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		code = 403
	case errors.Is(err, fs.ErrExist), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EBUSY):
		code = 409
	case errors.Is(err, fs.ErrInvalid), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EISDIR),
		errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP):
		code = 400
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EFBIG):
		code = http.StatusInsufficientStorage
	}
	return &Error{Code: code, Message: err.Error()}
}
