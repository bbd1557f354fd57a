"""Chat templates and tokenizers as they occur, built from parts, with the text that each must give written in Python.

A shape writes its template in Jinja and its conversation with f-strings, so that the two are independent; which parts
are faulty, and how, is known from the parts.
"""

import json
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

TEXTS = [
    ("What is 2 + 3?", "2 + 3 = 5"),
    ("why", "because"),
    ("Is the user an assistant?", "s"),  # an answer that stands in the question, and in the roles
    ("  how many eggs?\n", " 7 eggs \n"),
    ("one\n\ntwo", "First 3 * 4 = 12.\nThen 12 / 2 = 6.\n#### 6"),
    ("how?", "\nso"),
    ("who?", '"we"'),
]

SPECIALS = ("<s>", "</s>", "<|start|>", "<|end|>", "<|user|>", "<|bot|>", "<pad>")


class Style(NamedTuple):
    """How turns look: before and behind the content, of the user and of the assistant, in text."""

    user: tuple[str, str]
    bot: tuple[str, str]
    closing: str  # behind the last turn
    end: str | None  # the token that ends an answer


STYLES = {
    "chatml": Style(("<|start|>user\n", "<|end|>\n"), ("<|start|>assistant\n", "<|end|>\n"), "", "<|end|>"),
    "headers": Style(("<|user|>\n\n", "<|end|>"), ("<|bot|>\n\n", "<|end|>"), "", "<|end|>"),
    "instruct": Style(("[INST] ", " [/INST]"), (" ", " </s>"), "", "</s>"),
    "phi": Style(("<|user|>\n", "<|end|>\n"), ("<|bot|>\n", "<|end|>\n"), "</s>", "<|end|>"),
    "zephyr": Style(("<|user|>\n", "</s>\n"), ("<|bot|>\n", "</s>\n"), "", "</s>"),
    "words": Style(("User: ", "\n"), ("Assistant:", "\n"), "", None),
    "blank": Style(("User: ", "\n"), ("Assistant: ", "</s>\n"), "", "</s>"),
    "open": Style(("Question: ", "\n\n"), ("Answer:\n", ""), "", None),
}
CONTENTS = {
    "as it is": ("CONTENT", lambda text: text),
    "trimmed": ("CONTENT | trim", str.strip),
    "between blanks": ("' ' + CONTENT + ' '", lambda text: f" {text} "),
    "without thoughts": ("CONTENT.split('</think>')[-1].lstrip('\\n')", lambda text: text.lstrip("\n")),
    "marked": ("CONTENT", lambda text: text),  # inside {% generation %}
    "shouted": ("CONTENT | upper if role == 'assistant' else CONTENT", None),
    "twice": ("CONTENT + CONTENT if role == 'assistant' else CONTENT", None),
    "dropped": ("'' if role == 'assistant' else CONTENT", None),
    "quoted": ("CONTENT | tojson if role == 'assistant' else CONTENT", None),
}
REQUESTS = ("header", "none", "thought", "blank", "other")
GUARDS = {
    "nothing": "",
    "tools": "{% if tools is none and documents is none %}{% else %}{{ raise_exception('tools') }}{% endif %}",
    "roles": "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}{% endfor %}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% if ns.n > 9 %}"
    "{% break %}{% endif %}{% endfor %}",
    "date": "{% set year = strftime_now('%Y') %}{% if year | length != 4 %}{{ raise_exception('year') }}{% endif %}",
    "never": "{{ raise_exception('only with a system prompt') }}",
}


@dataclass(frozen=True)
class Shape:
    """One template."""

    style: str
    bos: str  # "none", "named", "written"
    system: bool
    content: str
    request: str
    is_thoughtful: bool  # an empty thought before every answer of the history
    guard: str

    def template(self) -> str:
        style, (expression, _) = STYLES[self.style], CONTENTS[self.content]
        opening = {"none": "", "named": "{{ bos_token }}", "written": "{{ '<s>' }}"}[self.bos]

        def put(text):
            return "{{ " + json.dumps(text).replace("</s>", '" + eos_token + "') + " }}"

        content = "{{ " + expression.replace("CONTENT", "message['content']") + " }}"
        marked = "{% generation %}" + content + "{% endgeneration %}" if self.content == "marked" else content
        thought = put("<think>\n\n</think>\n\n") if self.is_thoughtful else ""
        request = self._request()
        return (
            f"{opening}{GUARDS[self.guard]}{put('Be brief.') if self.system else ''}"
            "{% for message in messages %}{% set role = message['role'] %}{% if role == 'user' %}"
            f"{put(style.user[0])}{content}{put(style.user[1])}"
            "{% else %}"
            f"{put(style.bot[0])}{thought}{marked}{put(style.bot[1])}"
            "{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}"
            + (put(request) if request else "")
            + "{% else %}"
            + (put(style.closing) if style.closing else "")
            + "{% endif %}"
        )

    def _request(self):
        # A blank that stands before the answer is the answer's, as in the template of Llama 2.
        header = STYLES[self.style].bot[0].rstrip(" ") if self.style == "instruct" else STYLES[self.style].bot[0]
        return {
            "header": header,
            "none": "",
            "thought": header + "<think>\n",
            "blank": header + " ",
            "other": "<|bot|> Sure! ",
        }[self.request]

    def question(self, question):
        """The conversation up to the assistant's turn."""
        style, (_, content) = STYLES[self.style], CONTENTS[self.content]
        inside = question if content is None else content(question)
        return ("" if self.bos == "none" else "<s>") + "Be brief." * self.system + inside.join(style.user)

    def requested(self, question):
        """The question with the generation prompt behind it."""
        return self.question(question) + self._request()

    def before(self, question):
        """The text that a sound answer continues: the generation prompt, or all that stands before an answer.

        A blank in front of the answer is the answer's, unless the generation prompt has it.
        """
        blank = " " * (self.content == "between blanks")
        thought = "<think>\n\n</think>\n\n" * self.is_thoughtful
        before = self.question(question) + STYLES[self.style].bot[0] + thought + blank
        if self.request == "none" or (self.is_thoughtful and before.startswith(self.requested(question))):
            return before.rstrip(" ")
        return self.requested(question)

    def whole(self, question, answer):
        """The conversation."""
        style, (_, content) = STYLES[self.style], CONTENTS[self.content]
        thought = "<think>\n\n</think>\n\n" * self.is_thoughtful
        return self.question(question) + style.bot[0] + thought + content(answer) + style.bot[1] + style.closing

    def fault(self, question, answer):
        """What must be named, whatever the tokenizer; None where there is a boundary in the text."""
        if self.guard == "never":
            return "it says: only with a system prompt"
        if self.content == "dropped":
            return "leaves it out"
        if self.content == "twice":
            return "holds it 2 times"
        if self.content == "shouted" and answer.upper() != answer:
            return "must repeat the answer as it is"
        if self.content == "quoted" and json.dumps(answer) != f'"{answer}"':
            return "must repeat the answer as it is"
        if self.content in ("shouted", "quoted"):
            return ""  # by chance it is as it should be: not looked at
        return None


def shapes(count, seed):
    """Templates drawn from all of them; most parts are sound."""
    rng = np.random.default_rng(seed)

    def draw(names, sound):
        names = list(names)
        weights = np.array([4.0 if name in sound else 1.0 for name in names])
        return names[rng.choice(len(names), p=weights / weights.sum())]

    for _ in range(count):
        yield Shape(
            style=draw(STYLES, STYLES),
            bos=draw(("none", "named", "written"), ("none", "named", "written")),
            system=bool(rng.integers(2)),
            content=draw(CONTENTS, ("as it is", "trimmed", "between blanks", "marked")),
            request=draw(REQUESTS, ("header",)),
            is_thoughtful=bool(rng.random() < 0.15),
            guard=draw(GUARDS, [guard for guard in GUARDS if guard != "never"]),
        )


# Tokenizers -----------------------------------------------------------------------------------------------------------

CORPUS = [
    "User: What is 2 + 3?\nAssistant: because 3 * 4 = 12.\n\nThen 12 / 2 = 6.\n#### 6\n",
    "<think>\n\n</think>\n\nQuestion: how many eggs? Answer:\nwe Be brief. [INST] why [/INST] so First one two",
] * 4
LETTERS = sorted({chr(code) for code in range(32, 127)} | {"\n", "\u2581"})


def _bytes():
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _merging(use_regex=True, add_prefix_space=False):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space, use_regex=use_regex)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _sentencepiece():
    """As Llama 2 and TinyLlama: a blank in front of whatever is read."""
    tokenizer = Tokenizer(models.BPE(unk_token="?"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    trainer = trainers.BpeTrainer(vocab_size=260, initial_alphabet=LETTERS, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    return tokenizer


def _unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=200, initial_alphabet=LETTERS, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def _letters():
    """One token a letter, with gaps between the ids."""
    tokenizer = Tokenizer(models.WordLevel({letter: 3 * place for place, letter in enumerate(LETTERS)}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


MODELS = {
    "bytes": _bytes,
    "merging": _merging,
    "merging across words": lambda: _merging(use_regex=False),
    "merging with a blank in front": lambda: _merging(add_prefix_space=True),
    "sentencepiece": _sentencepiece,
    "unigram": _unigram,
    "letters": _letters,
}
PROCESSORS = {
    "nothing": "$A",
    "bos": "<s> $A",
    "eos": "$A </s>",
    "both": "<s> $A </s>",
    "two": "<s> <|start|> $A </s> <|end|>",
}
EDGES = {"plain": {}, "eats blanks behind": {"rstrip": True}, "eats blanks before": {"lstrip": True}}
PLACES = ("config", "config as objects", "map", "config and decoder")


def tokenizer(model, processor="nothing", edge="plain"):
    """A tokenizer with the special tokens."""
    built = MODELS[model]()
    built.add_special_tokens([AddedToken(text, special=True, normalized=False, **EDGES[edge]) for text in SPECIALS])
    ids = [(text, built.token_to_id(text)) for text in SPECIALS]
    template = processors.TemplateProcessing(single=PROCESSORS[processor], special_tokens=ids)
    is_bytes = model in ("bytes", "merging")
    built.post_processor = processors.Sequence([processors.ByteLevel(), template]) if is_bytes else template
    return built


def write(folder, built, template, place="config"):
    """Files as a model's folder has them; `place` says where the special tokens are named."""
    folder.mkdir(parents=True, exist_ok=True)
    built.save(str(folder / "tokenizer.json"))
    named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    config = {"tokenizer_class": "PreTrainedTokenizerFast"} | ({} if template is None else {"chat_template": template})
    if place == "config as objects":
        config |= {name: {"__type": "AddedToken", "content": text, "special": True} for name, text in named.items()}
    elif place == "map":
        # What the configuration says otherwise does not count.
        config |= {"bos_token": "<other>"}
        objects = {name: {"content": text, "lstrip": False, "rstrip": False} for name, text in named.items()}
        (folder / "special_tokens_map.json").write_text(json.dumps(objects))
    else:
        config |= named
    if place == "config and decoder":
        added = built.get_added_tokens_decoder().items()
        config["added_tokens_decoder"] = {
            str(id_): {"content": token.content, "special": True, "lstrip": token.lstrip, "rstrip": token.rstrip}
            for id_, token in added
        }
        (folder / "special_tokens_map.json").write_text(json.dumps({"bos_token": "<other>"}))  # not read
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def cases(count, seed):
    """Templates with tokenizers: every model, processor and edge in turn, in a drawn order."""
    rng = np.random.default_rng([seed, 1])
    for shape in shapes(count, seed):
        model, processor, edge, place = (
            list(names)[rng.integers(len(names))] for names in (MODELS, PROCESSORS, ["plain", *EDGES], PLACES)
        )
        yield shape, model, processor, edge, place
