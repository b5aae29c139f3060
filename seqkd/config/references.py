"""Names of rows in params.yaml: that each is there, none twice, and none leads back to itself."""

from seqkd.config.schema import OWN, REFERENCE, DecodeSettings, Params, RowSettings
from seqkd.config.teachers import OWN_BEAM, ModelTeacher
from seqkd.utils.errors import InputError


def check(params: Params, *, where: str) -> Params:
    """Return the same settings.

    Raise InputError where two rows would write the same folder, a row names a row that does not exist, or the
    init_from of rows form a circle.
    """
    if params.data.source == params.data.target:
        raise InputError(f"{where}: data.source and data.target are both {params.data.source!r}; name two languages.")
    _check_unique(params, where)
    _check_teachers(params, where)
    _check_references(params, where)
    for row in params.finetune:
        chain = [row]
        while (start := params.finetune[chain[-1]].init_from) in params.finetune:
            if start in chain:
                circle = " from ".join([*chain, start])
                raise InputError(
                    f"{where}: finetune.{row}.init_from: a circle, {circle}; start one from another model."
                )
            chain.append(start)
    return params


def _check_unique(params: Params, where: str) -> None:
    """Raise InputError where two models, texts or n-best lists have one name; upper and lower case count as equal,
    as on the disks of some systems."""
    models = [("the teacher", "teacher"), ("the baseline", "baseline")]
    models += [(f"distill.{row}", row) for row in params.distill]
    models += [(f"finetune.{row}", row) for row in params.finetune]
    models += [(f"the ratio {ratio} of prune.ratios", name) for name, ratio in params.pruned.items()]
    texts = [("the reference text", REFERENCE), ("the student's own text", OWN)]
    texts += [(f"select.{row}", row) for row in params.select] + [(f"mix.{row}", row) for row in params.mix]
    models += [(f"teachers.{row}", row) for row in params.teachers]
    lists = [(f"decode.{row}", row) for row in params.decode]
    for group in (models, texts, lists):
        owners: dict[str, str] = {}
        for key, name in group:
            other = owners.setdefault(name.casefold(), key)
            if other != key:
                raise InputError(f"{where}: {key} and {other} would both write {name}; rename the row.")


def _check_teachers(params: Params, where: str) -> None:
    """Raise InputError where a row of decode has no such teacher or no beam, or a loss needs a trained one."""
    if len(params.teachers) - len(params.external) > 1:
        raise InputError(f"{where}: teachers has several rows of kind trained; the pipeline trains one, so keep one.")
    for name, row in params.decode.items():
        key = f"{where}: decode.{name}"
        if row.join:
            _check_join(params, name, where)
        elif row.teacher is not None and row.teacher not in params.teachers:
            known = ", ".join(params.teachers) or "none"
            raise InputError(f"{key}.teacher is {row.teacher!r}; it must be a row of teachers (now: {known}).")
        elif row.beam is None and _searches(params, row):
            raise InputError(f"{key}.beam is missing; add it.")
        if not row.monolingual and (row.join or row.teacher in params.external):
            raise InputError(
                f"{key}.monolingual is false, but only the trained teacher can leave lines out; remove it."
            )
    _check_vocabulary(params, where)
    _check_word_kd(params, where)


def _check_vocabulary(params: Params, where: str) -> None:
    """Raise InputError where the vocabulary shall be that of a teacher which can have none."""
    owner = params.vocab.teacher
    if owner is None:
        return
    allowed = [name for name, row in params.external.items() if isinstance(row, ModelTeacher)]
    if owner not in allowed:
        listed = ", ".join(allowed) or "none"
        raise InputError(
            f"{where}: vocab.from is {owner!r}; it must be a teacher of kind transformers or ctranslate2 ({listed})."
        )
    for key in sorted({"character_coverage", "byte_fallback"} & params.vocab.model_fields_set):
        raise InputError(f"{where}: vocab.{key} is for a vocabulary that is learnt; remove it, or vocab.from.")


def _check_word_kd(params: Params, where: str) -> None:
    """Raise InputError where no teacher can give the distribution that a row's loss needs."""
    words = {name: row for name, row in _students(params).items() if row.alpha and not params.trains_teacher}
    teacher, owner = params.word_teacher, params.vocab.teacher
    for name, row in words.items():
        if teacher is not None and row.top_k:
            continue
        key = f"{where}: {name}.alpha is {row.alpha:g}"
        if teacher is not None:
            raise InputError(
                f"{key}, but of {teacher.name}'s distribution only the likeliest pieces are stored; add top_k to the "
                "row, such as top_k: 16."
            )
        if owner is not None:
            raise InputError(
                f"{key}, but CTranslate2 gives no distribution of {owner}; set it to 0, or name the same model as a "
                "teacher of kind transformers."
            )
        raise InputError(
            f"{key}, but Word-KD needs a teacher of the students' vocabulary, and {', '.join(params.external)} has "
            "another; set it to 0, or train a teacher too (a row of decode without teacher)."
        )


def _students(params: Params) -> dict[str, RowSettings]:
    """Return the rows of distill and finetune by their keys."""
    rows: dict[str, RowSettings] = {f"distill.{name}": row for name, row in params.distill.items()}
    return rows | {f"finetune.{name}": row for name, row in params.finetune.items()}


def _searches(params: Params, row: DecodeSettings) -> bool:
    """Return whether the teacher of a row of decode searches with the row's beam."""
    return row.teacher is None or isinstance(params.teachers[row.teacher], OWN_BEAM)


def _check_join(params: Params, name: str, where: str) -> None:
    """Raise InputError where a row of decode joins what is no row of an external teacher, or has a teacher itself."""
    row, key = params.decode[name], f"{where}: decode.{name}"
    if row.teacher is not None or row.length_penalty:
        raise InputError(f"{key} has join, so it takes other rows' lists; remove its teacher and length_penalty.")
    allowed = sorted(other for other, each in params.decode.items() if params.teacher_of(each))
    if len(set(params.owners(name).values())) < len(set(row.join or ()) & set(allowed)):
        raise InputError(f"{key}.join has two rows of one teacher; name one row of each.")
    for other in row.join or ():
        if other not in allowed:
            listed = ", ".join(allowed) or "none"
            raise InputError(f"{key}.join has {other!r}; it must name rows with an external teacher ({listed}).")


def _check_references(params: Params, where: str) -> None:
    """Raise InputError where a row names a list, text or model that does not exist."""
    parts = {REFERENCE, *params.select}
    texts, models = {*parts, *params.mix}, {"baseline", *params.distill, *params.finetune}
    models |= {"teacher"} if params.trains_teacher else set()
    references: list[tuple[str, str, set[str]]] = [
        *((f"select.{name}.nbest", row.nbest, set(params.decode)) for name, row in params.select.items()),
        *((f"mix.{name}", part, parts) for name, row in params.mix.items() for part in row),
        *((f"{name}.train_text", row.train_text, {*texts, OWN}) for name, row in _students(params).items()),
        *((f"finetune.{name}.init_from", row.init_from, models - {name}) for name, row in params.finetune.items()),
        *(("speed.models", name, models) for name in params.speed.models),
        ("prune.model", params.prune.model, models),
        ("prune.retrain", params.prune.retrain, texts),
        ("prune.finetune", params.prune.finetune, texts),
    ]
    for key, value, allowed in references:
        if value == "gold" and "gold" not in allowed and "reference" in allowed:
            raise InputError(f"{where}: {key}: gold is now called reference; rename it.")
        if value not in allowed:
            raise InputError(f"{where}: {key} is {value!r}; it must be one of {', '.join(sorted(allowed))}.")
    for name, settings in params.select.items():
        if settings.metric == "score" and not params.decode[settings.nbest].monolingual:
            raise InputError(
                f"{where}: select.{name} also chooses for lines without a translation, but decode.{settings.nbest} has "
                f"monolingual: false; set that to true, or select.{name}.metric to bleu."
            )
    for name, student in _students(params).items():
        if student.train_text == OWN and not (student.alpha and not student.top_k):
            raise InputError(
                f"{where}: {name} trains on the student's own output, so it learns from the teacher's whole "
                "distribution alone; set alpha above 0, best to 1, and top_k to 0."
            )
    if params.trains_teacher and "teacher" not in params.speed.models:
        raise InputError(f"{where}: speed.models lacks the teacher, which the others are compared with; add it.")
