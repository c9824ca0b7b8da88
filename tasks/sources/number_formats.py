"""How numbers in text files are written: decimal mark, thousands separators, currency signs, suffixes such as K and M.

All number columns of a file are written alike, in the currency of the series. A comma or a point that could mark
decimals or thousands is an error unless another cell or the spec settles it. Empty cells become NaN; a cell that is no
number is an error that names its line.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float64

from model.errors import AmbiguousFile, SpecError, UnreadableFile
from tasks.sources.file_tables import PLAIN_NUMBER, FileTable
from tasks.sources.symbol_names import COINS, CURRENCIES, DOLLARS, base_and_quote
from tasks.sources.text_layout import EMPTY_CELLS, decimal_proof

DECIMAL_MARKS = {".": "point", ",": "comma"}
CURRENCY_SIGNS = {
    "$": DOLLARS | {"aud", "cad", "nzd", "sgd", "hkd", "mxn", "ars", "brl"},
    "€": frozenset({"eur"}),
    "£": frozenset({"gbp"}),
}
SIGNS = "".join(CURRENCY_SIGNS)
BLANK_CHARACTERS = "\u00a0\u202f\u2009 "
BLANKS = rf"[\s{BLANK_CHARACTERS}]*"
SEPARATORS = f"[{BLANK_CHARACTERS}']"
GROUPED = rf"^[-+]?\d{{1,3}}(?:(?:[{BLANK_CHARACTERS}]\d{{3}})+|(?:'\d{{3}})+)(?:[.,]\d*)?[KkMmBb%]?$"
SUFFIXES = {"K": 1e3, "M": 1e6, "B": 1e9}


def read_numbers(table: FileTable, decimal: str, symbol: str) -> tuple[list[Float64[np.ndarray, " bar"]], str]:
    """Convert prices and volume to float64, NaN where a cell is empty; return them with a description of their format.

    Args:
        table: columns of a file.
        decimal: decimal mark; empty to infer it.
        symbol: of the series; its quote is the currency of the numbers.

    Raises:
        SpecError: a number has the sign of another currency.
        UnreadableFile: a cell is no number.
        AmbiguousFile: the decimal mark is ambiguous.
    """
    _refuse_other_currency(table, symbol)
    places = (*table.columns.prices, table.columns.volume)
    texts = {at: _bare_numbers(field) for at, field in table.fields.items() if at in places and _is_text(field)}
    mark = decimal or _decimal_mark(texts, table)
    style = f"decimal {DECIMAL_MARKS[mark]}"
    thousands = "," if mark == "." else "."
    separated = [at for at, text in texts.items() if pc.any(pc.match_substring(text, thousands)).as_py()]
    if separated:
        names = ", ".join(table.names[at] or f"column {at + 1}" for at in separated)
        style += f", thousands {'comma' if thousands == ',' else 'point'} in {names}"
    numbers: list[Float64[np.ndarray, " bar"]] = []
    for at in places:
        if at < 0:
            numbers.append(np.full(len(table.place.numbers), np.nan))
        elif at in texts:
            numbers.append(_from_text(texts[at], mark, at, table))
        else:
            numbers.append(_float64(table.fields[at], at, table))
    return numbers, style


def _is_text(field: pa.ChunkedArray) -> bool:
    """Whether a column holds text."""
    return bool(pa.types.is_string(field.type) or pa.types.is_large_string(field.type))


def _bare_numbers(field: pa.ChunkedArray) -> pa.ChunkedArray:
    """Remove currency signs and blanks at the ends of numbers, and blanks and apostrophes that group thousands.

    Others stay, so that the cell is no number: 1000'00 may be 1000.00. Markers of an empty cell become null.
    """
    bare = pc.replace_substring_regex(
        pc.cast(field, pa.string()),
        rf"^{BLANKS}([-+]?){BLANKS}[{SIGNS}]?{BLANKS}|{BLANKS}([KkMmBb%]?){BLANKS}[{SIGNS}]?{BLANKS}$",
        r"\1\2",
    )
    grouped = pc.match_substring_regex(bare, GROUPED)
    if pc.any(grouped).as_py():
        bare = pc.if_else(grouped, pc.replace_substring_regex(bare, SEPARATORS, ""), bare)
    return pc.if_else(pc.is_in(bare, pa.array(EMPTY_CELLS)), pa.scalar(None, pa.string()), bare)


def _refuse_other_currency(table: FileTable, symbol: str) -> None:
    """Raise SpecError at the first number with the sign of another currency than the symbol's quote."""
    _, quote = base_and_quote(symbol)
    foreign = [
        sign
        for sign, currencies in CURRENCY_SIGNS.items()
        if quote in CURRENCIES.union(COINS) and quote not in currencies
    ]
    for at in (*table.columns.prices, table.columns.volume):
        if at < 0 or not foreign or not _is_text(table.fields[at]):
            continue
        row = int(
            pc.index(
                pc.fill_null(pc.match_substring_regex(table.fields[at], f"[{''.join(foreign)}]"), fill_value=False),
                pa.scalar(value=True),
            ).as_py()
        )
        if row >= 0:
            raise SpecError(
                f"{table.place.of(row)}: expected numbers of {symbol}, found {table.fields[at][row].as_py()!r} in "
                f"column {table.names[at] or at + 1!r}, in another currency; set --source.symbol to the series "
                "of the file"
            )


def _decimal_mark(texts: dict[int, pa.ChunkedArray], table: FileTable) -> str:
    """Find the decimal mark that is consistent with all numbers of a file; a point where no number has a mark."""
    proven = [
        mark
        for mark in DECIMAL_MARKS
        if any(pc.any(pc.match_substring_regex(text, decimal_proof(mark))).as_py() for text in texts.values())
    ]
    if len(proven) == 1:
        return proven[0]
    for text in texts.values():
        row = int(pc.index(pc.match_substring_regex(text, "[.,]"), pa.scalar(value=True)).as_py())
        if row < 0:
            continue
        cell = text[row].as_py()
        sign = DECIMAL_MARKS["," if "," in cell else "."]
        found = "other cells prove both" if proven else "no other cell settles it"
        raise AmbiguousFile(
            f"{table.place.of(row)}: the {sign} in {cell!r} could mark decimals or thousands, and {found}; choose with "
            "--source.decimal . or --source.decimal ,"
        )
    return "."


def _from_text(text: pa.ChunkedArray, mark: str, at: int, table: FileTable) -> Float64[np.ndarray, " bar"]:
    """Convert text to numbers; a cell that is no number is an error."""
    thousands = "," if mark == "." else "."
    grouped = rf"^[-+]?\d{{1,3}}(\{thousands}\d{{2,3}})*\{thousands}\d{{3}}(\{mark}\d*)?[KkMmBb]?$"
    wrong = pc.and_(pc.match_substring(text, thousands), pc.invert(pc.match_substring_regex(text, grouped)))
    _refuse_first(wrong, at, table)
    plain = pc.replace_substring_regex(pc.replace_substring(text, thousands, ""), r"^\+", "")
    if mark == ",":
        plain = pc.replace_substring(plain, ",", ".")
    factor: Float64[np.ndarray, " bar"] | float = 1.0
    if at == table.columns.volume:
        suffix = pc.utf8_slice_codeunits(pc.utf8_upper(plain), -1).to_pandas()
        factor = suffix.map(SUFFIXES).fillna(1.0).to_numpy(dtype=np.float64)
        plain = pc.replace_substring_regex(plain, "[KkMmBb]$", "")
    try:
        return np.asarray(pc.cast(plain, pa.float64()).to_numpy() * factor)
    except pa.ArrowInvalid:
        bad = pc.and_(pc.is_valid(plain), pc.invert(pc.match_substring_regex(plain, f"^(?:{PLAIN_NUMBER.pattern})$")))
        _refuse_first(bad, at, table)
        bad = pa.chunked_array([[_is_beyond(cell) for cell in plain.to_pylist()]])
        _refuse_first(bad, at, table)
        raise


def _is_beyond(cell: str | None) -> bool:
    """Whether a plain number cannot be converted, as its exponent has too many digits."""
    try:
        pc.cast(pa.scalar(cell), pa.float64())
    except pa.ArrowInvalid:
        return True
    return False


def _refuse_first(bad: pa.ChunkedArray, at: int, table: FileTable) -> None:
    """Raise UnreadableFile at the first cell of a column that is no number, if there is one."""
    row = int(pc.index(pc.fill_null(bad, fill_value=False), pa.scalar(value=True)).as_py())
    if row >= 0:
        raise UnreadableFile(
            f"{table.place.of(row)}: expected a number in column {table.names[at] or at + 1!r}, found "
            f"{table.fields[at][row].as_py()!r}; correct the line, or empty the cell: then only this bar is refused"
        )


def _float64(field: pa.ChunkedArray, at: int, table: FileTable) -> Float64[np.ndarray, " bar"]:
    """Convert a column of numbers."""
    kind = field.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return np.asarray(pc.cast(field, pa.float64(), safe=False).to_numpy())
    raise UnreadableFile(
        f"{table.place.source}: expected numbers in column {table.names[at]!r}, found {kind}; "
        "choose another column with --source.columns"
    )
