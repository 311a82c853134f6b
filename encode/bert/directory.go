package bert

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/permafrost-ml/permafrost/internal/bounded"
	"github.com/permafrost-ml/permafrost/internal/tokenizer"
)

// directory is what the small files of a model directory say.
type directory struct {
	transformer string // the folder of the transformer
	arch        *architecture
	maxLength   int
	prompt      string // before each text
	pooling     []string
	steps       []step // behind pooling
	precision   string // of the products of layers
}

// step is a Dense or a Normalize module.
type step struct {
	dense *dense // nil for Normalize
}

// dense declares a Dense module.
type dense struct {
	folder  string
	in, out int
	bias    bool
	act     activation
}

// readDirectory reads a model directory, but no weights and no vocabulary.
func readDirectory(root string) (*directory, error) {
	var modules []struct {
		Name string `json:"name"`
		Path string `json:"path"`
		Type string `json:"type"`
	}
	d := &directory{transformer: root, pooling: []string{"mean"}}
	declared, err := bounded.JSON(filepath.Join(root, "modules.json"), maxConfig, &modules)
	if err != nil {
		return nil, err
	}
	for i, m := range modules {
		if m.Path != "" && (!filepath.IsLocal(m.Path) || strings.Contains(m.Path, `\`)) {
			return nil, fmt.Errorf("modules.json: the path %q leads out of the model's directory", m.Path)
		}
		folder := filepath.Join(root, filepath.FromSlash(m.Path))
		kind := m.Type[strings.LastIndexByte(m.Type, '.')+1:]
		if !strings.HasPrefix(m.Type, "sentence_transformers.") {
			kind = ""
		}
		first := map[int]string{0: "Transformer", 1: "Pooling"}[i]
		switch {
		case first != "" && kind != first:
			return nil, fmt.Errorf("modules.json: module %d is %q, want sentence_transformers' %s", i, m.Type, first)
		case kind == "Transformer" && i == 0:
			d.transformer = folder
		case kind == "Pooling" && i == 1:
			if d.pooling, err = readPooling(folder); err != nil {
				return nil, fmt.Errorf("pooling: %w", err)
			}
		case kind == "Normalize":
			d.steps = append(d.steps, step{})
		case kind == "Dense":
			dense, err := readDense(folder)
			if err != nil {
				return nil, fmt.Errorf("module %q: %w", m.Path, err)
			}
			d.steps = append(d.steps, step{dense})
		default:
			return nil, fmt.Errorf("modules.json: the module %q at place %d is not supported; there is Transformer, Pooling, then Dense and Normalize", m.Type, i)
		}
	}
	if declared && len(modules) < 2 {
		return nil, fmt.Errorf("modules.json names %d modules, want a Transformer and a Pooling", len(modules))
	}
	if d.arch, err = readArchitecture(d.transformer); err != nil {
		return nil, err
	}
	if d.maxLength, err = readMaxLength(d.transformer, d.arch); err != nil {
		return nil, err
	}
	if d.prompt, err = readPrompt(root); err != nil {
		return nil, err
	}
	width := d.arch.hidden * len(d.pooling)
	for _, s := range d.steps {
		if s.dense == nil {
			continue
		}
		if s.dense.in != width {
			return nil, fmt.Errorf("a Dense module takes %d values, there are %d", s.dense.in, width)
		}
		width = s.dense.out
	}
	return d, nil
}

// poolings are all ways to make one vector of a text's tokens, in the order
// in which several are concatenated.
var poolings = []string{"cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"}

func readPooling(folder string) ([]string, error) {
	var raw struct {
		Mode           any   `json:"pooling_mode"`
		CLS            bool  `json:"pooling_mode_cls_token"`
		Max            bool  `json:"pooling_mode_max_tokens"`
		Mean           bool  `json:"pooling_mode_mean_tokens"`
		MeanSqrt       bool  `json:"pooling_mode_mean_sqrt_len_tokens"`
		Weighted       bool  `json:"pooling_mode_weightedmean_tokens"`
		Last           bool  `json:"pooling_mode_lasttoken"`
		IncludesPrompt *bool `json:"include_prompt"`
	}
	if there, err := bounded.JSON(filepath.Join(folder, "config.json"), maxConfig, &raw); err != nil {
		return nil, err
	} else if !there {
		return nil, errors.New("it has no config.json")
	}
	if p := raw.IncludesPrompt; p != nil && !*p {
		return nil, errors.New("include_prompt is false, which is not supported")
	}
	var modes []string
	switch mode := raw.Mode.(type) {
	case nil:
		for i, is := range []bool{raw.CLS, raw.Max, raw.Mean, raw.MeanSqrt, raw.Weighted, raw.Last} {
			if is {
				modes = append(modes, poolings[i])
			}
		}
		if modes == nil {
			modes = []string{"mean"}
		}
	case string:
		modes = []string{mode}
	case []any:
		for _, m := range mode {
			modes = append(modes, fmt.Sprint(m))
		}
	}
	for i, m := range modes {
		if !slices.Contains(poolings, m) || slices.Contains(modes[:i], m) {
			return nil, fmt.Errorf("pooling_mode: %q is none of %s, or there twice", m, strings.Join(poolings, ", "))
		}
	}
	if len(modes) == 0 {
		return nil, fmt.Errorf("pooling_mode is %v", raw.Mode)
	}
	return modes, nil
}

func readDense(folder string) (*dense, error) {
	raw := struct {
		In       int     `json:"in_features"`
		Out      int     `json:"out_features"`
		Bias     *bool   `json:"bias"`
		Act      *string `json:"activation_function"`
		Input    string  `json:"module_input_name"`
		Output   *string `json:"module_output_name"`
		Residual bool    `json:"use_residual"`
	}{Input: sentence}
	if there, err := bounded.JSON(filepath.Join(folder, "config.json"), maxConfig, &raw); err != nil {
		return nil, err
	} else if !there {
		return nil, errors.New("it has no config.json")
	}
	if raw.In < 1 || raw.In > maxSize || raw.Out < 1 || raw.Out > maxSize {
		return nil, fmt.Errorf("it maps %d values to %d, want 1 to %d", raw.In, raw.Out, maxSize)
	}
	if raw.Input != sentence || raw.Output != nil && *raw.Output != sentence || raw.Residual {
		return nil, errors.New("it does something else than map the embedding (module_input_name, module_output_name, use_residual)")
	}
	d := &dense{folder: folder, in: raw.In, out: raw.Out, bias: raw.Bias == nil || *raw.Bias}
	name := "torch.nn.modules.activation.Tanh"
	if raw.Act != nil {
		name = *raw.Act
	}
	var err error
	d.act, err = findActivation(denseActivations, name)
	return d, err
}

// sentence is what sentence-transformers calls the embedding between steps.
const sentence = "sentence_embedding"

// readMaxLength is the maximum length that sentence-transformers uses.
func readMaxLength(folder string, a *architecture) (int, error) {
	for _, name := range []string{"bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"} {
		var raw struct {
			MaxLength *int   `json:"max_seq_length"`
			Lower     bool   `json:"do_lower_case"`
			Task      string `json:"transformer_task"`
		}
		there, err := bounded.JSON(filepath.Join(folder, "sentence_"+name+"_config.json"), maxConfig, &raw)
		if err != nil {
			return 0, err
		}
		if !there {
			continue
		}
		if raw.Task != "" && raw.Task != "feature-extraction" {
			return 0, fmt.Errorf("sentence_%s_config.json: transformer_task is %q, there is feature-extraction", name, raw.Task)
		}
		if raw.Lower {
			if lower, err := tokenizer.Lowers(folder, a.family.tokens); err != nil {
				return 0, err
			} else if !lower {
				return 0, fmt.Errorf("sentence_%s_config.json: do_lower_case before a tokenizer that keeps case is not supported", name)
			}
		}
		if raw.MaxLength != nil {
			if *raw.MaxLength < minLength {
				return 0, fmt.Errorf("sentence_%s_config.json: max_seq_length is %d, want %d or more", name, *raw.MaxLength, minLength)
			}
			return min(*raw.MaxLength, a.maxTokens()), nil
		}
		break
	}
	var raw struct {
		MaxLength *float64 `json:"model_max_length"`
	}
	if _, err := bounded.JSON(filepath.Join(folder, "tokenizer_config.json"), tokenizer.MaxFile, &raw); err != nil {
		return 0, err
	}
	if m := raw.MaxLength; m != nil && *m < float64(a.maxTokens()) {
		if *m < minLength || *m != math.Trunc(*m) {
			return 0, fmt.Errorf("tokenizer_config.json: model_max_length is %v, want %d or more", *m, minLength)
		}
		return int(*m), nil
	}
	return a.maxTokens(), nil
}

// readPrompt is the text that sentence-transformers puts before each text
// unless it is told otherwise.
func readPrompt(root string) (string, error) {
	var raw struct {
		Prompts map[string]string `json:"prompts"`
		Default *string           `json:"default_prompt_name"`
	}
	if _, err := bounded.JSON(filepath.Join(root, "config_sentence_transformers.json"), maxConfig, &raw); err != nil {
		return "", err
	}
	if raw.Default == nil || *raw.Default == "" {
		return "", nil
	}
	p, ok := raw.Prompts[*raw.Default]
	if !ok {
		return "", fmt.Errorf("config_sentence_transformers.json: there is no prompt of the name %q, the default", *raw.Default)
	}
	return p, nil
}
