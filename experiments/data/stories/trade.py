"""Stories of trade and pay: a sale, a shopping tour, wages.

Each knows its own plot and nothing of the others.
"""

from fractions import Fraction

from experiments.data.storytelling import PARTS, Number, Script, Story, dollars, products, sizes, times

__all__ = ["sale", "shopping", "wages"]

_GOODS = [
    ("bakes", "bake", "trays", "on each tray", "muffins", "muffin", "come out burnt", "boxes", "box", "ingredients"),
    ("bakes", "bake", "sheets", "on each sheet", "cookies", "cookie", "break", "bags", "bag", "butter and sugar"),
    ("bakes", "bake", "trays", "on each tray", "rolls", "roll", "do not rise", "bags", "bag", "flour"),
    ("makes", "make", "batches", "in each batch", "candles", "candle", "crack", "boxes", "box", "wax"),
    ("makes", "make", "sets", "in each set", "bracelets", "bracelet", "come apart", "packs", "pack", "beads"),
    ("picks", "pick", "baskets", "in each basket", "apples", "apple", "are bruised", "bags", "bag", "a market stall"),
    (
        "picks",
        "pick",
        "buckets",
        "in each bucket",
        "pears",
        "pear",
        "are too soft",
        "crates",
        "crate",
        "a market stall",
    ),
    ("prints", "print", "sheets", "on each sheet", "stickers", "sticker", "are smudged", "packs", "pack", "paper"),
    ("paints", "paint", "rows", "in each row", "postcards", "postcard", "get stained", "packs", "pack", "paint"),
]
_EVENTS = ["school fair", "street market", "church bazaar", "harvest festival", "winter market", "town fair"]
_SALE = Script(
    "lot:1 plain:0",
    "none:0 times:2 half:2 more:1",
    "none:0 few:1 part:2 percent:2",
    "none:0 few:1 each:2",
    "none:0 packed:1",
    "none:0 sold:1",
    "none:0 paid:1",
    "none:0 shared:1 saved:2",
    rule=lambda make, again, lost, given, packed, sold, paid, spent: (
        sold != "none" or (paid == "none" and spent == "none")
    ),
)


def sale(story: Story, num_steps: int) -> None:
    """Goods are made for a fair, some are lost or given away, the rest is sold."""
    make, again, lost, given, packed, sold, paid, spent = story.plan(_SALE, num_steps)
    hero = story.person()
    makes, verb, lots, on_each, things, thing, fault, packs, pack, material = story.one(_GOODS)
    event = story.one(_EVENTS)
    must_divide = packed != "none" and given == "none"
    multiple = {"part": 12, "percent": 20}.get(lost, 12 if must_divide and lost == "none" else 2)
    if make == "lot":
        a, b = story.one(products(range(3, 16), range(6, 25), multiple, 48, 240))
        story.say(
            f"{hero} {makes} {a} {lots} of {things} for the {event}, with {b} {things} {on_each}.",
            f"For the {event}, {hero} {makes} {a} {lots} of {b} {things} each.",
        )
        now = story.step([f"{hero} {makes} @ {things}.", f"There are @ {things} to begin with."], a, "*", b)
    else:
        now = Number(story.one(range(-(-48 // multiple) * multiple, 241, multiple)))
        story.say(f"{hero} {makes} {now} {things} for the {event}.", f"For the {event}, {hero} {makes} {now} {things}.")
    ask = f"How many {things} does {hero} {verb}?"
    if again in ("times", "half"):
        factor = story.one([2, 3]) if again == "times" else 2
        story.say(f"The next day {hero.she} {makes} {times(factor) if again == 'times' else 'half'} as many.")
        second = story.step(
            [f"The next day {hero.she} {makes} @ {things}.", f"On the second day {hero} {makes} @ {things}."],
            *(now, "*" if again == "times" else "/", factor),
        )
        now = story.step([f"Together that is @ {things}.", f"In all, {hero} {makes} @ {things}."], now, "+", second)
        ask = f"How many {things} does {hero} {verb} in the two days together?"
    elif again == "more":
        extra = story.one([x for x in range(7, 70) if (now.whole + x) % multiple == 0])
        story.say(
            f"The next day {hero.she} {makes} another {extra} {things}.",
            f"A friend brings {extra} more {things} to sell.",
        )
        now = story.step([f"Then there are @ {things}.", f"That makes @ {things} in all."], now, "+", extra)
        ask = f"How many {things} are there then?"
    count = now.whole
    if lost == "few":
        few = story.one([x for x in range(3, count // 4) if not must_divide or sizes(count - x)])
        story.say(f"{few} of the {things} {fault} and cannot be sold.", f"Then {few} {things} {fault}.")
        now = story.step([f"That leaves @ good {things}.", f"So @ {things} can be sold."], now, "-", few)
    elif lost != "none":
        if lost == "part":
            size = story.one([k for k in (2, 3, 4, 5) if count % k == 0])
            story.say(f"But {PARTS[size]} of the {things} {fault} and cannot be sold.")
            bad = story.step([f"@ {things} cannot be sold.", f"The bad ones number @ {things}."], now, "/", size)
        else:
            rates = [k for k in (5, 10, 15, 20, 25, 30, 40) if count * k % 100 == 0]
            percent = story.one([k for k in rates if not must_divide or sizes(count - count * k // 100)])
            story.say(f"Of the {things}, {percent}% {fault} and cannot be sold.")
            bad = story.step([f"@ {things} {fault}.", f"So @ {things} cannot be sold."], now, "*", percent, "/", 100)
        now = story.step([f"That leaves @ good {things}.", f"The good ones are @ {things}."], now, "-", bad)
    if lost != "none":
        ask = f"How many {things} can be sold?"
    count = now.whole
    if given == "few":
        few = story.one([x for x in range(4, min(count // 2, 61)) if packed == "none" or sizes(count - x)])
        story.say(f"{hero.start} gives {few} {things} to {hero.her} neighbors.", f"{hero.start} keeps {few} for home.")
        now = story.step([f"{hero} has @ {things} left.", f"After that, @ {things} are left."], now, "-", few)
    elif given == "each":
        pairs = [(a, b) for a in range(2, 6) for b in range(2, 6) if packed == "none" or sizes(count - a * b)]
        a, b = story.one([pair for pair in pairs if pair[0] * pair[1] <= count - 6])
        story.say(f"{hero.start} gives {a} {things} to each of {hero.her} {b} helpers.")
        away = story.step([f"The helpers get @ {things}.", f"{hero} gives away @ {things}."], a, "*", b)
        now = story.step([f"{hero} has @ {things} left.", f"After that, @ {things} are left."], now, "-", away)
    if given != "none":
        ask = f"How many {things} does {hero} have left?"
    rest = "them all" if lost == given == "none" else "the rest"
    if packed != "none":
        size = story.one(sizes(now.whole))
        story.say(
            f"{hero.start} packs {rest} into {packs} of {size}.", f"{hero.start} puts {rest} in {packs} of {size}."
        )
        now = story.step([f"{hero} fills @ {packs}.", f"That makes @ {packs}."], now, "/", size)
        ask = f"How many {packs} does {hero} fill?"
    if sold != "none":
        units, unit, cheap = (packs, pack, 4) if packed != "none" else (things, thing, 1)
        price = dollars(Fraction(story.one(range(2 * cheap, 6 * cheap + 1)), 2))
        whole = f"all the {packs}" if packed != "none" else rest
        story.say(f"{hero.start} sells {whole} at {price} per {unit}.", f"{hero.start} sells {whole} for {price} each.")
        now = story.step([f"{hero} takes in $@.", f"The {units} bring in $@."], now, "*", price)
        ask = f"How much money does {hero} take in?"
    if paid != "none":
        cost = dollars(story.one(range(4, max(6, min(now.whole // 2, 150)))))
        story.say(f"{hero.start} had paid {cost} for {material}.", f"The cost of {material} was {cost}.")
        now = story.step([f"{hero.her.capitalize()} profit is $@.", f"After costs, {hero} has $@."], now, "-", cost)
        ask = f"How many dollars of profit does {hero} make?"
    money = "profit" if paid != "none" else "money"
    if spent == "shared":
        heads = story.one([k for k in range(2, 7) if now.cents % k == 0])
        story.say(
            f"{hero} shares the {money} equally among {heads} charities.",
            f"The {money} is split equally among {heads} clubs.",
        )
        story.step(["Each gets $@.", "So each one receives $@."], now, "/", heads)
        ask = "How many dollars does each get?"
    elif spent == "saved":
        size = story.one([k for k in (2, 3, 4, 5) if now.cents % k == 0])
        story.say(f"{hero.start} puts {PARTS[size]} of the {money} in the bank and keeps the rest.")
        bank = story.step([f"{hero} puts $@ in the bank.", "$@ goes to the bank."], now, "/", size)
        story.step([f"{hero} keeps $@.", f"So {hero.she} keeps $@."], now, "-", bank)
        ask = f"How much money does {hero} keep?"
    story.say(ask)


_WARES = {
    "the bookshop": [("notebooks", "notebook", 2, 8), ("novels", "novel", 8, 20), ("comics", "comic", 3, 9),
                     ("calendars", "calendar", 7, 15), ("atlases", "atlas", 15, 30), ("bookmarks", "bookmark", 1, 4)],
    "the hardware store": [("brushes", "brush", 3, 9), ("cans of paint", "can", 12, 30), ("hammers", "hammer", 9, 20),
                           ("boards", "board", 4, 12), ("hinges", "hinge", 2, 6), ("ladders", "ladder", 35, 80)],
    "the market": [("melons", "melon", 2, 6), ("jars of honey", "jar", 5, 12), ("loaves of bread", "loaf", 2, 6),
                   ("cheeses", "cheese", 6, 15), ("pumpkins", "pumpkin", 3, 9), ("bottles of juice", "bottle", 2, 7)],
    "the garden center": [("rose bushes", "bush", 8, 20), ("flower pots", "pot", 3, 12), ("bags of peat", "bag", 4, 9),
                          ("packets of seeds", "packet", 2, 4), ("firs", "fir", 20, 45), ("rakes", "rake", 9, 20)],
    "the toy store": [("puzzles", "puzzle", 6, 15), ("kites", "kite", 5, 14), ("board games", "game", 12, 30),
                      ("balls", "ball", 3, 9), ("model planes", "plane", 9, 22), ("yo-yos", "yo-yo", 2, 6)],
    "the sports store": [("tennis balls", "ball", 1, 4), ("shirts", "shirt", 9, 25), ("pairs of socks", "pair", 3, 8),
                         ("caps", "cap", 8, 20), ("jump ropes", "rope", 4, 10), ("helmets", "helmet", 20, 45)],
}  # fmt: skip
_SHOPPING = Script(
    "many:1",
    "none:0 many:1 single:0",
    "none:0 many:1",
    "none:0 many:1",
    "none:0 sum:1",
    "none:0 coupon:1 percent:2",
    "none:0 change:1",
    "none:0 shared:1",
    rule=lambda one, two, three, four, total, cut, change, shared: (
        (two == "none") == (total == "none")
        and (three == "none" or two == "many")
        and (four == "none" or three == "many")
        and (change == "none" or shared == "none")
    ),
)


def shopping(story: Story, num_steps: int) -> None:
    """Several kinds of things are bought in one shop."""
    *lines, total, cut, change, shared = story.plan(_SHOPPING, num_steps)
    hero = story.person()
    shop = story.one(list(_WARES))
    wares = list(_WARES[shop])
    costs: list[Number] = []
    told: list[str] = []
    fine = 2 if shop in ("the market", "the hardware store") else 1  # half dollars
    for line in lines:
        if line == "none":
            continue
        things, thing, low, high = ware = story.one(wares)
        wares.remove(ware)
        price = dollars(Fraction(story.one(range(low * fine, high * fine + 1)), fine))
        if line == "single":
            _, of, content = things.partition(" of ")
            told.append(f"one {thing}{of}{content} for {price}")
            costs.append(price)
            continue
        number = story.one(range(2, 13))
        told.append(story.one([f"{number} {things} at {price} each", f"{number} {things} for {price} each"]))
        costs.append(story.step([f"The {things} cost $@.", f"{hero} pays $@ for the {things}."], number, "*", price))
    listed = ", ".join(told[:-1]) + " and " * (len(told) > 1) + told[-1]
    story.say(f"At {shop}, {hero} buys {listed}.", f"{hero} goes to {shop} and buys {listed}.")
    now = costs[0]
    ask = f"How many dollars does {hero} spend?"
    if total != "none":
        summed = [part for cost in costs for part in ("+", cost)][1:]
        now = story.step(["All together that is $@.", "Everything together costs $@."], *summed)
    if cut == "coupon":
        off = dollars(story.one(range(1, max(2, now.whole // 3))))
        story.say(f"{hero.start} has a coupon for {off} off.", f"A coupon takes {off} off the price.")
        now = story.step([f"With the coupon {hero} pays $@.", "After the coupon it is $@."], now, "-", off)
    elif cut == "percent":
        percent = story.one([10, 20, 30, 40])
        story.say(f"Everything is {percent}% off that day.", f"As a member {hero.she} gets {percent}% off.")
        off = story.step(["The discount is $@.", f"{hero} saves $@."], now, "*", percent, "/", 100)
        now = story.step([f"So {hero} pays $@.", "After the discount it is $@."], now, "-", off)
    if change != "none":
        bills = dollars(-(-(now.cents + 1) // 500) * 5 + 5 * story.one(range(4)))
        story.say(f"{hero.start} pays with {bills}.", f"{hero.start} hands over {bills}.")
        story.step([f"{hero} gets $@ back.", "The change is $@."], bills, "-", now)
        ask = f"How much change does {hero} get?"
    if shared != "none":
        heads = story.one([k for k in range(2, 7) if now.cents % k == 0])
        story.say(f"The cost is split equally among {heads} friends.", f"{heads} neighbors share the cost equally.")
        story.step(["Each one pays $@.", "So each of them pays $@."], now, "/", heads)
        ask = "How many dollars does each of them pay?"
    story.say(ask)


_JOBS = [
    "works in a bakery", "works in a library", "mows lawns", "washes cars", "repairs bicycles", "walks dogs",
    "paints fences", "works in a cafe", "teaches swimming", "cleans windows", "delivers parcels", "waters gardens",
    "works in a cinema", "tutors children in math",
]  # fmt: skip
_WISHES = ["bicycle", "guitar", "telescope", "laptop", "camera", "tent", "piano", "sewing machine", "canoe", "drum set"]
_WAGES = Script(
    "days:1 hours:0",
    "pay:1",
    "none:0 extra:2",
    "none:0 tips:1",
    "none:0 tax:2",
    "none:0 rent:1",
    "none:0 weeks:1 wish:1",
    "none:0 gift:1",
    rule=lambda hours, pay, extra, tips, tax, rent, end, gift: (
        (tax == "none" or end != "wish") and (gift == "none" or end == "weeks")
    ),
)


def wages(story: Story, num_steps: int) -> None:
    """Somebody earns by the hour and pays for this and that."""
    hours, _, extra, tips, tax, rent, end, gift = story.plan(_WAGES, num_steps)
    hero = story.person()
    job = story.one(_JOBS)
    rate = dollars(story.one(range(10, 31)))
    if hours == "days":
        days, daily = story.one(range(3, 7)), story.one(range(3, 10))
        story.say(
            f"{hero} {job} {daily} hours a day, {days} days a week, and earns {rate} an hour.",
            f"{hero} {job} {days} days a week for {daily} hours a day. {hero.start} is paid {rate} an hour.",
        )
        time = story.step([f"{hero} works @ hours a week.", "In a week that is @ hours."], days, "*", daily)
    else:
        time = Number(story.one(range(8, 46)))
        story.say(
            f"{hero} {job} {time} hours a week for {rate} an hour.",
            f"{hero} {job}. {hero.start} works {time} hours a week and earns {rate} an hour.",
        )
    now = story.step([f"{hero} earns $@ a week.", "The weekly pay is $@."], time, "*", rate)
    ask = f"How much does {hero} earn in a week?"
    if extra != "none":
        more, better = story.one(range(2, 9)), dollars(rate.whole + story.one(range(2, 13)))
        story.say(
            f"On Sundays {hero.she} works {more} more hours for {better} an hour.",
            f"At weekends {hero.she} adds {more} hours at {better} an hour.",
        )
        bonus = story.step(["The extra hours bring $@.", f"For the extra hours {hero} gets $@."], more, "*", better)
        now = story.step(["Together that is $@ a week.", f"So {hero} earns $@ a week."], now, "+", bonus)
    if tips != "none":
        coins = dollars(story.one(range(6, 80)))
        story.say(f"{hero.start} also gets {coins} in tips every week.", f"Tips add {coins} a week.")
        now = story.step([f"With tips {hero} makes $@ a week.", "With tips that is $@."], now, "+", coins)
    if tax != "none":
        percent = story.one([10, 15, 20, 25, 30])
        story.say(f"{hero.start} pays {percent}% of this in taxes.", f"Taxes take {percent}% of it.")
        away = story.step(["The taxes are $@ a week.", f"{hero} pays $@ in taxes."], now, "*", percent, "/", 100)
        now = story.step(["After taxes $@ is left.", f"So {hero} keeps $@ a week."], now, "-", away)
    if rent != "none":
        spent = dollars(story.one(range(10, now.whole - 20)))
        story.say(f"Every week {hero.she} spends {spent}.", f"{hero.her.capitalize()} expenses are {spent} a week.")
        now = story.step([f"{hero} saves $@ a week.", "Then $@ is left every week."], now, "-", spent)
    if extra != "none" or tips != "none":
        ask = f"How much does {hero} make in a week?"
    if tax != "none" or rent != "none":
        ask = f"How much does {hero} have left each week?"
    if end == "weeks":
        weeks = story.one(range(2, 13))
        now = story.step([f"In {weeks} weeks that is $@.", f"After {weeks} weeks {hero} has $@."], now, "*", weeks)
        verb = "save" if rent != "none" else "take home" if tax != "none" else "make"
        ask = f"How much does {hero} {verb} in {weeks} weeks?"
        if gift != "none":
            cost = dollars(story.one(range(15, max(20, min(now.whole - 10, 900)))))
            wish = story.one(["a trip", "a party", "repairs", "clothes", "presents", "medicine", "furniture"])
            story.say(f"After {weeks} weeks {hero.she} spends {cost} on {wish}.")
            story.step([f"After that {hero} has $@ left.", "Then $@ is left."], now, "-", cost)
            ask = "How much of the money from these weeks is left then?"
    elif end == "wish":
        wish = story.one(_WISHES)
        weeks = story.one([k for k in range(2, 13) if 100 <= k * now.whole <= 2400] or [2, 3])
        cost = dollars(now.whole * weeks)
        saved = "what is left" if rent != "none" else "all of this money"
        story.say(f"{hero.start} wants to buy a {wish} for {cost} and puts {saved} aside.")
        story.step(["It takes @ weeks.", f"{hero} needs @ weeks."], cost, "/", now)
        ask = f"In how many weeks can {hero} buy it?"
    story.say(ask)
