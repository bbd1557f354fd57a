"""Stories of amounts: what people or days bring, pages that are read, water in a vessel.

Each knows its own plot and nothing of the others.
"""

from fractions import Fraction

from experiments.data.storytelling import DAYS, PARTS, Number, Script, Story, dollars, products, times

__all__ = ["comparisons", "reading", "water"]

_COLLECTIONS = [
    ("stamps", "buys", "buy"),
    ("marbles", "wins", "win"),
    ("seashells", "finds", "find"),
    ("photos", "takes", "take"),
    ("bottle caps", "gathers", "gather"),
    ("acorns", "gathers", "gather"),
    ("chestnuts", "picks up", "pick up"),
    ("wildflowers", "picks", "pick"),
    ("paper cranes", "folds", "fold"),
    ("old coins", "finds", "find"),
]


def comparisons(story: Story, num_steps: int) -> None:
    """Each person, or each day, brings more, fewer or several times as many as the one before."""
    """Several people, or one on several days, each told by an earlier one; then the total."""
    things, finds, find = story.one(_COLLECTIONS)
    by_day = num_steps < 8 and story.one([False, True])
    ends = ["last"] * (num_steps < 4) + ["total"] + ["target", "worth"] * (num_steps > 1)
    end = story.one(ends)
    num_relations = num_steps - {"last": 0, "total": 1}.get(end, 2)
    hero = story.person()
    people = [hero] + [hero if by_day else story.person() for _ in range(max(1, num_relations))]
    numbers = [Number(story.one(range(12, 61, 2 if num_steps > 1 else 1)))]
    how = f"{hero} {finds} {numbers[0]} {things}"
    story.say(*([f"On Monday, {how}.", f"{how} on Monday."] if by_day else [f"{how}.", f"One weekend {how}."]))

    def starts(place: int) -> str:
        return f"On {DAYS[place]} {hero.she} {finds}" if by_day else f"{people[place]} {finds}"

    def name(place: int) -> str:
        return f"on {DAYS[place]}" if by_day else people[place].name

    if not num_relations:
        numbers.append(Number(story.one(range(5, 60))))
        story.say(f"{starts(1)} {numbers[1]}.", f"{starts(1)} another {numbers[1]}.")
    taken: set[tuple[int, int | str]] = set()  # nothing is told twice in the same words
    for place in range(1, num_relations + 1):
        found = [
            f"On {DAYS[place]} {hero} {finds} @ {things}." if by_day else f"{people[place]} {finds} @ {things}.",
            f"The number of {things} for {DAYS[place] if by_day else people[place]} is @.",
        ]
        pairs = [
            (a, b)
            for b in range(place)
            for a in range(b)
            if numbers[a].whole + numbers[b].whole <= 120 and (a, b) not in taken
        ]
        if end != "last" and pairs and story.one([False, False, True][place % 2 :]):
            a, b = story.one(pairs)
            taken.add((a, b))
            story.say(f"{starts(place)} as many as {name(a)} and {name(b).removeprefix('on ')} together.")
            numbers.append(story.step(found, numbers[a], "+", numbers[b]))
            continue
        before = place - 1 if end == "last" else story.one(range(place))
        base = numbers[before]
        sizes = [k for k in (2, 3, 4) if base.whole % k == 0 and base.whole > k and (before, f"/{k}") not in taken]
        factors = [k for k in (2, 3, 4, 5) if base.whole * k <= 120 and (before, f"*{k}") not in taken]
        form = story.one(["more"] + ["times"] * bool(factors) + ["part"] * bool(sizes) + ["fewer"] * (base.whole > 8))
        if form == "times":
            factor = story.one(factors)
            taken.add((before, f"*{factor}"))
            story.say(f"{starts(place)} {times(factor)} as many as {name(before)}.")
            numbers.append(story.step(found, base, "*", factor))
        elif form == "part":
            size = story.one(sizes)
            taken.add((before, f"/{size}"))
            story.say(f"{starts(place)} {PARTS[size]} as many as {name(before)}.")
            numbers.append(story.step(found, base, "/", size))
        else:
            extra = story.one(range(3, 30) if form == "more" else range(2, base.whole // 2 + 1))
            story.say(f"{starts(place)} {extra} {form} than {name(before)}.")
            numbers.append(story.step(found, base, "+" if form == "more" else "-", extra))
    if end == "last":
        asked = f"does {hero} {find} on {DAYS[num_relations]}" if by_day else f"does {people[-1]} {find}"
        story.say(f"How many {things} {asked}?")
        return
    together = f"does {hero} {find} altogether" if by_day else f"do they {find} altogether"
    summed = [part for number in numbers for part in ("+", number)][1:]
    whole = story.step([f"In all there are @ {things}.", f"The total is @ {things}."], *summed)
    they = hero.she if by_day else "they"
    if end == "total":
        story.say(f"How many {things} {together}?", f"What is the total number of {things}?")
    elif end == "target":
        target = story.one(range(whole.whole + 5, whole.whole + 100))
        story.say(f"{they.capitalize()} need{'s' * by_day} {target} {things} for a school project.")
        story.say(f"How many more {things} {'does' if by_day else 'do'} {they} need?")
        story.step(
            [f"They still need @ {things}." if not by_day else f"{hero} still needs @ {things}."], target, "-", whole
        )
    else:
        price = dollars(Fraction(story.one([1, 2, 3, 5, 6, 7, 8]), 4))
        story.say(f"A shop pays {price} for each of the {things}.")
        story.say(f"How much money {'does' if by_day else 'do'} {they} get for all of them?")
        story.step(["The shop pays $@.", f"All the {things} together bring $@."], whole, "*", price)


_BOOKS = [
    "novel",
    "biography",
    "fantasy book",
    "thriller",
    "mystery",
    "travel book",
    "science book",
    "book of fairy tales",
]
_READING = Script(
    "rate:1 given:0",
    "none:0 times:1 more:1 given:0",
    "none:0 rate:1 fewer:1",
    "none:0 sum:1",
    "none:0 left:1",
    "none:0 days:1 minutes:1 hours:2",
    "none:0 breaks:1",
    rule=lambda first, second, third, total, left, end, breaks: (
        (second == "none") == (total == "none")
        and (third == "none" or second != "none")
        and (end == "none" or left != "none")
        and (breaks == "none" or end == "minutes")
    ),
)


def reading(story: Story, num_steps: int) -> None:
    """Somebody reads a book, week by week."""
    first, second, third, total, left, end, breaks = story.plan(_READING, num_steps)
    hero = story.person()
    book = story.one(_BOOKS)
    parts: list[Number] = []
    opening = f"{hero} is reading a {book}."
    if first == "rate":
        days, pages = story.one(range(2, 8)), story.one(range(8, 41))
        story.say(
            f"In the first week {hero.she} reads {pages} pages a day on {days} days.",
            f"In the first week {hero.she} reads on {days} days, {pages} pages each time.",
        )
        parts.append(
            story.step([f"In the first week {hero} reads @ pages.", "The first week brings @ pages."], days, "*", pages)
        )
    else:
        parts.append(Number(story.one(range(20, 121))))
        story.say(f"In the first week {hero.she} reads {parts[0]} pages.")
    ask = f"How many pages does {hero} read in the first week?"
    in_second = [f"In the second week {hero} reads @ pages.", "The second week brings @ pages."]
    if second == "times":
        factor = story.one([2, 3])
        story.say(f"In the second week {hero.she} reads {times(factor)} as many.")
        parts.append(story.step(in_second, parts[0], "*", factor))
    elif second == "more":
        extra = story.one(range(5, 50))
        story.say(f"In the second week {hero.she} reads {extra} pages more than in the first.")
        parts.append(story.step(in_second, parts[0], "+", extra))
    elif second == "given":
        parts.append(Number(story.one(range(15, 130))))
        story.say(f"In the second week {hero.she} reads {parts[1]} pages.")
    in_third = [f"In the third week {hero} reads @ pages.", "The third week brings @ pages."]
    if third == "rate":
        days, pages = story.one(range(2, 8)), story.one(range(8, 41))
        story.say(f"In the third week {hero.she} reads {pages} pages on each of {days} days.")
        parts.append(story.step(in_third, days, "*", pages))
    elif third == "fewer":
        less = story.one(range(3, parts[1].whole - 5))
        story.say(f"In the third week {hero.she} reads {less} pages fewer than in the second.")
        parts.append(story.step(in_third, parts[1], "-", less))
    now = parts[0]
    if total != "none":
        summed = [part for number in parts for part in ("+", number)][1:]
        now = story.step([f"So far {hero} has read @ pages.", "In all that is @ pages."], *summed)
        ask = f"How many pages does {hero} read in these weeks?"
    if left != "none":
        pace = story.one(range(10, 41)) if end == "days" else story.one([2, 3, 4, 5] if end == "hours" else range(2, 7))
        unit = {"days": pace, "hours": 60}.get(end, 1)
        rest = unit * story.one(range(2, 9)) if end in ("days", "hours") else story.one(range(20, 160))
        opening = f"{hero} is reading a {book} of {now.whole + rest} pages."
        now = story.step(["@ pages are left.", f"{hero} still has @ pages to read."], now.whole + rest, "-", now)
        ask = "How many pages are left?"
        if end == "days":
            story.say(f"From then on {hero.she} reads {pace} pages a day.")
            story.step([f"{hero} needs @ more days.", "The rest takes @ days."], now, "/", pace)
            ask = f"How many more days does {hero} need?"
        elif end != "none":
            story.say(f"A page takes {hero} {pace} minutes.")
            now = story.step(["The rest takes @ minutes.", f"{hero} needs @ minutes for it."], now, "*", pace)
            ask = "How many minutes of reading are left?"
            if end == "hours":
                story.step(["That is @ hours.", "In hours this is @ hours."], now, "/", 60)
                ask = "How many hours of reading are left?"
            elif breaks != "none":
                pause = story.one(range(10, 91, 5))
                story.say(f"{hero.start} also plans {pause} minutes of breaks.")
                story.step(["With breaks it takes @ minutes.", "With the breaks that is @ minutes."], now, "+", pause)
                ask = "How many minutes will the rest take with the breaks?"
    story.say(opening, first=True)
    story.say(ask)


_VESSELS = [
    "rain barrel",
    "fish pond",
    "paddling pool",
    "water tank",
    "cattle trough",
    "fountain",
    "storage tank",
    "cistern",
]
_WATER = Script(
    "filled:1 given:0",
    "none:0 second:2",
    "none:0 leak:2",
    "none:0 used:1 part:2",
    "none:0 rain:1",
    "none:0 free:1 minutes:2",
)


def water(story: Story, num_steps: int) -> None:
    """A vessel is filled, leaks and is drawn from."""
    filled, second, leak, used, rain, end = story.plan(_WATER, num_steps)
    hero = story.person()
    vessel = story.one(_VESSELS)
    if filled == "filled":
        flow, minutes = story.one(range(6, 31, 2)), story.one(range(12, 61, 6))
        story.say(
            f"{hero} fills an empty {vessel} with a hose. It gives {flow} liters a minute and runs {minutes} minutes.",
            f"{hero} fills an empty {vessel} for {minutes} minutes with a hose that gives {flow} liters a minute.",
        )
        now = story.step(["The hose gives @ liters.", f"The {vessel} gets @ liters."], flow, "*", minutes)
    else:
        now = Number(story.one(range(120, 1201, 12)))
        story.say(
            f"There are {now} liters of water in {hero}'s {vessel}.",
            f"{hero} has a {vessel} with {now} liters of water in it.",
        )
    if second != "none":
        flow, minutes = story.one(range(3, 21, 3)), story.one(range(8, 41, 4))
        story.say(f"Then a pump adds {flow} liters a minute for {minutes} minutes.")
        more = story.step(["The pump adds @ liters.", "From the pump come @ liters."], flow, "*", minutes)
        now = story.step(["Together that is @ liters.", f"Now the {vessel} holds @ liters."], now, "+", more)
    peak = now.whole
    if leak != "none":
        hours, loss = story.one(products(range(2, 11), range(2, 13), 12, 4, now.whole // 2))
        story.say(
            f"The {vessel} has a leak and loses {loss} liters an hour for {hours} hours.",
            f"Over the next {hours} hours the {vessel} loses {loss} liters an hour.",
        )
        away = story.step(["The leak takes @ liters.", "It loses @ liters."], hours, "*", loss)
        now = story.step(["That leaves @ liters.", "Then @ liters are left."], now, "-", away)
    if used == "used":
        drawn = story.one(range(5, now.whole - 10))
        story.say(f"{hero} takes out {drawn} liters for the garden.", f"{hero} uses {drawn} liters to wash a car.")
        now = story.step(["After that @ liters are left.", f"Now the {vessel} holds @ liters."], now, "-", drawn)
    elif used == "part":
        size = story.one([2, 3, 4])
        story.say(f"{hero} uses {PARTS[size]} of the water for the garden.")
        away = story.step(["The garden gets @ liters.", f"{hero} uses @ liters."], now, "/", size)
        now = story.step(["After that @ liters are left.", f"Now the {vessel} holds @ liters."], now, "-", away)
    if rain != "none":
        fallen = story.one(range(5, 90))
        story.say(f"Overnight the rain adds {fallen} liters.", f"A shower of rain adds {fallen} liters.")
        now = story.step(["With the rain that is @ liters.", "The rain makes it @ liters."], now, "+", fallen)
    peak = max(peak, now.whole)
    ask = f"How many liters of water are in the {vessel} now?"
    if end != "none":
        flow = story.one([4, 5, 8, 10, 12, 15])
        least = -(-(peak - now.whole) // flow)  # what has once been in it fits
        room = (
            flow * (least + story.one(range(5, 31)))
            if end == "minutes"
            else peak - now.whole + story.one(range(20, 300))
        )
        story.say(
            f"The {vessel} can hold {now.whole + room} liters.",
            f"When full, the {vessel} holds {now.whole + room} liters.",
        )
        free = story.step(
            ["There is room for @ liters.", "It takes @ more liters to fill it."], now.whole + room, "-", now
        )
        ask = f"How many more liters fit into the {vessel} now?"
        if end == "minutes":
            story.say(f"A tap gives {flow} liters a minute.")
            story.step(["It takes @ minutes to fill it.", "The tap must run for @ minutes."], free, "/", flow)
            ask = f"How many minutes must the tap run to fill the {vessel}?"
    story.say(ask)
