package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/permafrost-ml/permafrost/cachesink"
	"github.com/permafrost-ml/permafrost/internal/models"
	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/pipeline/export"
	"github.com/permafrost-ml/permafrost/sink/flight"
	"github.com/permafrost-ml/permafrost/sink/qdrant"
	"github.com/permafrost-ml/permafrost/source"
)

// The exit codes.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitConfig      = 3
	exitWouldEncode = 4
	exitCorrupt     = 5
	exitLocked      = 6
	exitNoSpace     = 7
	exitQuarantined = 8
	exitSignal      = 128 // plus the signal's number
)

// exitMeaning is a line of the commands' help.
func exitMeaning(code int) string {
	switch code {
	case exitOK:
		return "0    done"
	case exitFailed:
		return "1    something failed"
	case exitUsage:
		return "2    wrong flags or arguments"
	case exitConfig:
		return "3    the configuration is invalid, or needs a GPU that is not there"
	case exitWouldEncode:
		return "4    the cache is missing or stale, and nothing may be encoded"
	case exitCorrupt:
		return "5    the cache or a model is damaged or stale, or the folder is no cache"
	case exitLocked:
		return "6    another process is changing the same model"
	case exitNoSpace:
		return "7    no space left"
	case exitQuarantined:
		return "8    done, but bad rows were put into quarantine"
	default:
		return "130  interrupted (SIGINT); 143 terminated (SIGTERM): a fill or a download goes on where it stopped"
	}
}

// usageError is a command line that cannot be understood.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// exitError ends a command whose result is printed with another code than 0.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// errNoCache is returned for a folder in which no fill was ever committed.
var errNoCache = errors.New("no cache here")

// errExists is returned instead of overwriting a file.
var errExists = errors.New("the file exists")

// failure is an error as it is shown: a stable code for programs, a message
// and what to do about it.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
	Space   *room  `json:"space,omitempty"` // of a fill for which there is none
	exit    int
}

// room is what a fill needs and has, in bytes.
type room struct {
	Needed int64 `json:"needed"`
	Free   int64 `json:"free"`
}

// classify finds the code, the exit code and the hint of an error.
func classify(ctx context.Context, err error) failure {
	f := failure{Code: "failed", Message: err.Error(), exit: exitFailed}
	is := func(code string, exit int, hint string) failure {
		f.Code, f.exit, f.Hint = code, exit, hint
		return f
	}
	var usage *usageError
	var row *source.RowError
	var space *cachesink.SpaceError
	var sig *signalError
	var answer *qdrant.Error
	switch {
	case errors.As(err, &usage):
		return is("usage", exitUsage, "`pipeline help` and `pipeline help COMMAND` say what there is")
	case errors.As(context.Cause(ctx), &sig):
		f.Message = sig.Error()
		code := "interrupted"
		if sig.signal == syscall.SIGTERM {
			code = "terminated"
		}
		return is(code, exitSignal+int(sig.signal), "run the same command again to go on")
	case errors.As(err, &space):
		f.Message = fmt.Sprintf("%s: the fill needs %s in %s, %s are free", cachesink.ErrNoSpace, size(space.Need), space.Place, size(space.Free))
		f.Space = &room{space.Need, space.Free}
		return is("no_space", exitNoSpace, "make room, take fewer rows with --limit, or fill all the same with --ignore-space; what is committed is safe")
	case noSpace(err):
		return is("no_space", exitNoSpace, "what is committed is safe; make room and run the same command again")
	case errors.Is(err, pipeline.ErrGPUUnavailable):
		return is("gpu_unavailable", exitConfig, "cache_type: auto")
	case errors.Is(err, cachesink.ErrScheme):
		return is("no_storage", exitConfig, "")
	case errors.Is(err, pipeline.ErrConfig):
		if errors.Is(err, fs.ErrNotExist) {
			return is("invalid_config", exitConfig, "`pipeline init DATA` prints a config to start from")
		}
		return is("invalid_config", exitConfig, "")
	case errors.Is(err, pipeline.ErrWouldEncode):
		return is("would_encode", exitWouldEncode, "`pipeline fill CONFIG` encodes what is missing")
	case errors.Is(err, cachesink.ErrCorrupt):
		return is("corrupt", exitCorrupt, "`pipeline verify` lists the damaged files, `pipeline repair CONFIG` makes them anew")
	case errors.Is(err, pipeline.ErrStaleEmbeddings):
		return is("stale_embeddings", exitCorrupt, "fill another cache.save_dir; an encoder of your own needs another output version whenever what it gives changes")
	case errors.Is(err, cachesink.ErrForeign):
		return is("foreign_cache", exitCorrupt, "name a cache, an empty folder or a new one as cache.save_dir")
	case errors.Is(err, models.ErrCorrupt):
		return is("model_damaged", exitCorrupt, "`pipeline model verify` lists the damaged files; pull or import the model again to replace them")
	case errors.Is(err, models.ErrChecksum):
		return is("wrong_content", exitCorrupt, "nothing of it is kept; try again, or another source")
	case errors.Is(err, models.ErrLocked):
		return is("locked", exitLocked, "wait for the other process to end")
	case errors.Is(err, models.ErrExists):
		return is("model_exists", exitFailed, "--force replaces it, --name keeps both")
	case errors.Is(err, models.ErrNotFound):
		return is("no_model", exitFailed, "`pipeline model list` lists the models, `pipeline model pull` and `import` get more")
	case errors.Is(err, models.ErrName):
		return is("usage", exitUsage, "")
	case errors.Is(err, models.ErrAccess):
		return is("access_denied", exitFailed, "set HF_TOKEN to a token that may read the model")
	case errors.Is(err, models.ErrHub):
		return is("hub", exitFailed, "what was downloaded is kept for the next pull; --endpoint or HF_ENDPOINT names another hub")
	case errors.Is(err, models.ErrNoModel), errors.Is(err, models.ErrAmbiguous), errors.Is(err, models.ErrSource):
		return is("no_model", exitFailed, "")
	case errors.Is(err, pipeline.ErrNotOurs):
		return is("output_not_ours", exitFailed, "name an empty folder, or a new one, as output")
	case errors.Is(err, pipeline.ErrEncoder):
		return is("wrong_encoder", exitFailed, "")
	case errors.Is(err, cachesink.ErrKeyConflict):
		return is("key_conflict", exitFailed, "cache.key_extractors must tell different objects apart")
	case errors.Is(err, errNoCache):
		return is("no_cache", exitFailed, "`pipeline fill CONFIG` makes it")
	case errors.Is(err, export.ErrOptions):
		return is("usage", exitUsage, "`pipeline help export` says what each format holds")
	case errors.Is(err, flight.ErrOpen):
		return is("usage", exitUsage, "--token-file asks clients for a token, --anyone serves without one")
	case errors.Is(err, qdrant.ErrOptions):
		return is("usage", exitUsage, "`pipeline help export` says how to upload")
	case errors.Is(err, qdrant.ErrCollection):
		return is("wrong_collection", exitFailed, "name another collection, or --distance as it has it")
	case errors.As(err, &answer):
		return is("upload", exitFailed, "run the same command again to go on")
	case errors.Is(err, export.ErrNotOurs):
		return is("output_not_ours", exitFailed, "name an empty folder, or a new one")
	case errors.Is(err, errExists), errors.Is(err, export.ErrExists):
		return is("exists", exitFailed, "--force overwrites it")
	case errors.As(err, &row):
		return is("bad_row", exitFailed, "--on-error skip or --on-error quarantine goes on without bad rows")
	case errors.Is(err, cachesink.ErrMissing), errors.Is(err, fs.ErrNotExist):
		return is("not_found", exitFailed, "")
	case errors.Is(err, fs.ErrPermission):
		return is("permission_denied", exitFailed, "")
	}
	return f
}

// fail shows an error and returns the exit code.
func (a *app) fail(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	var shown *exitError
	if errors.As(err, &shown) {
		return shown.code
	}
	f := classify(ctx, err)
	if a.json {
		a.printJSON(struct {
			SchemaVersion int     `json:"schema_version"`
			Error         failure `json:"error"`
		}{schemaVersion, f})
		return f.exit
	}
	if a.progress == progressJSON {
		b, _ := json.Marshal(struct {
			Event string `json:"event"`
			failure
		}{"error", f})
		fmt.Fprintf(a.stderr, "%s\n", b)
		return f.exit
	}
	for line := range strings.Lines(f.Message) {
		fmt.Fprintf(a.stderr, "pipeline: %s\n", strings.TrimRight(line, "\n"))
	}
	if f.Hint != "" {
		fmt.Fprintf(a.stderr, "hint: %s\n", f.Hint)
	}
	return f.exit
}
