"""Stories of being under way: a journey, an outing.

Each knows its own plot and nothing of the others.
"""

from fractions import Fraction

from experiments.data.storytelling import PARTS, Number, Script, Story, dollars, products, sizes

__all__ = ["journey", "outing"]

_VEHICLES = [
    ("drives", "drive", "car", range(30, 71, 5)),
    ("drives", "drive", "van", range(30, 66, 5)),
    ("rides", "ride", "motorcycle", range(30, 71, 5)),
    ("drives", "drive", "truck", range(30, 61, 5)),
    ("drives", "drive", "camper", range(25, 61, 5)),
]
_GOALS = ["the coast", "the mountains", "the capital", "a lake", "the border", "a national park", "a family reunion",
    "a music festival", "a wedding", "a trade show", "the harbor", "an old castle"]  # fmt: skip
_JOURNEY = Script(
    "rate:1 given:0",
    "none:0 rate:1 given:0",
    "none:0 rate:1",
    "none:0 total:1",
    "none:0 left:1 last:2",
    "none:0 back:1",
    "none:0 fuel:1",
    "none:0 toll:1",
    "none:0 shared:1",
    rule=lambda one, two, three, total, left, back, fuel, toll, shared: (
        (two == "none") == (total == "none")
        and (three == "none" or two == "rate")
        and (total != "none" or one == "rate" or (back == left == "none" and fuel != "none"))
        and (left == "none" or back == fuel == "none")
        and (fuel != "none" or toll == shared == "none")
    ),
)


def journey(story: Story, num_steps: int) -> None:
    """A way in stages, what is left of it, what it costs."""
    one, two, three, total, left, back, fuel, toll, shared = story.plan(_JOURNEY, num_steps)
    hero = story.person()
    drives, drive, vehicle, speeds = story.one(_VEHICLES)
    goal = story.one(_GOALS)
    his = hero.her
    legs: list[Number] = []
    for place, leg in enumerate(leg for leg in (one, two, three) if leg != "none"):
        start = [f"{hero} {drives} {his} {vehicle} to {goal}. {hero.start} {drives}", f"Then {hero.she} {drives}"][
            place > 0
        ]
        if place == 2:
            start = f"After a rest {hero.she} {drives}"
        if leg == "given":
            miles = story.one(range(12, 96))
            morning = " in the morning" if not place and two != "none" else ""
            story.say(f"{start} {'another ' * (place > 0)}{miles} miles{morning}.")
            legs.append(Number(miles))
            continue
        hours, speed = story.one(range(2, 7)), story.one(speeds)
        story.say(
            f"{start} for {hours} hours at {speed} miles per hour.",
            f"{start} at {speed} miles per hour for {hours} hours.",
        )
        part = ["first", "second", "last"][place]
        said = [f"In the {part} part {hero} {drives} @ miles." if two != "none" else f"{hero} {drives} @ miles."]
        legs.append(
            story.step([*said, f"That is @ miles{f' in the {part} part' * (two != 'none')}."], speed, "*", hours)
        )
    way = legs[0]
    if total != "none":
        summed = [part for number in legs for part in ("+", number)][1:]
        way = story.step(
            [
                f"So far {hero} has gone @ miles." if left != "none" else f"In all {hero} {drives} @ miles.",
                "Together that is @ miles.",
            ],
            *summed,
        )
    ask = f"How many miles does {hero} {drive}?"
    if left != "none":
        pace, hours = story.one(speeds), story.one(range(2, 6))
        rest = pace * hours if left == "last" else story.one(range(15, 150))
        story.say(f"The whole way is {way.whole + rest} miles long.")
        now = story.step(["@ miles are left.", f"{hero} still has @ miles to go."], way.whole + rest, "-", way)
        ask = "How many miles are left?"
        if left == "last":
            story.say(f"{hero.start} covers the rest at {pace} miles per hour.")
            story.step(["That takes @ hours.", f"The rest takes {hero} @ hours."], now, "/", pace)
            ask = "How many hours does the rest take?"
    if back != "none":
        story.say(f"{hero.start} comes home by the same road.")
        way = story.step([f"There and back {hero} {drives} @ miles.", "Both ways together are @ miles."], way, "*", 2)
        ask = f"How many miles does {hero} {drive} there and back?"
    if fuel != "none":
        # Multiples of 20 cents: any whole number of miles can then be shared by 2, 4 and 5.
        rate = dollars(Fraction(story.one([1, 2, 3, 4]), 5))
        story.say(f"The {vehicle} costs {rate} a mile to run.", f"Fuel costs {rate} for every mile.")
        cost = story.step(["The miles cost $@.", f"The {vehicle} costs $@ to run."], way, "*", rate)
        ask = f"How many dollars does the {vehicle} cost {hero} for this journey?"
        if toll != "none":
            fee = dollars(story.one(range(4, 60)))
            story.say(f"{hero.start} also pays {fee} in tolls.", f"Parking costs another {fee}.")
            cost = story.step(["With that, the cost is $@.", "In all, the journey costs $@."], cost, "+", fee)
            ask = "How many dollars does the journey cost?"
        if shared != "none":
            heads = story.one([2, 4, 5])
            story.say(
                f"The cost is shared equally by {heads} people.", f"{heads} people travel and share the cost equally."
            )
            story.step(["Each person pays $@.", "So each one pays $@."], cost, "/", heads)
            ask = "How many dollars does each person pay?"
    story.say(ask)


_PLACES = ["a science museum", "the zoo", "an aquarium", "a castle", "a theater", "a wildlife park", "a planetarium",
    "a farm", "a ski resort", "a water park", "a botanical garden", "an art gallery"]  # fmt: skip
_OUTING = Script(
    "classes:1 given:0",
    "none:0 absent:1",
    "none:0 part:2",
    "none:0 adults:1",
    "none:0 tickets:1 vans:1",
    "none:0 bus:1",
    "none:0 grant:1",
    "none:0 snacks:2",
    rule=lambda students, absent, part, adults, tickets, bus, grant, snacks: (
        tickets == "tickets" or bus == grant == snacks == "none"
    ),
)


def outing(story: Story, num_steps: int) -> None:
    """A school goes on an outing."""
    students, absent, part, adults, tickets, bus, grant, snacks = story.plan(_OUTING, num_steps)
    hero = story.person()
    place = story.one(_PLACES)
    multiple = 12 if part != "none" or (tickets == "vans" and adults == "none") else 1
    start_multiple = multiple if absent == "none" else 1
    opening = f"{hero}'s school goes to {place}."
    if students == "classes":
        a, b = story.one(products(range(2, 9), range(15, 31), start_multiple, 40, 240))
        story.say(
            f"{opening} There are {a} classes of {b} students each.",
            f"{opening} Each of its {a} classes has {b} students.",
        )
        now = story.step(["There are @ students.", "The classes have @ students in all."], a, "*", b)
        ask = "How many students does the school have?"
    else:
        now = Number(story.one(range(-(-40 // start_multiple) * start_multiple, 241, start_multiple)))
        story.say(f"{opening} It has {now} students.", f"{opening} {now} students are invited.")
        ask = ""
    count = now.whole
    if absent != "none":
        few = story.one([x for x in range(2, 14) if (count - x) % multiple == 0])
        story.say(f"{few} students are sick that day and stay at home.", f"{few} of the students cannot come.")
        now = story.step(["That leaves @ students.", "So @ students can come."], now, "-", few)
        ask = "How many students can come?"
    if part != "none":
        size = story.one([2, 3, 4])
        they = "those who can come" if absent != "none" else "the students"
        story.say(
            f"Of {they}, {PARTS[size]} have been there before and stay at school.",
            f"Of {they}, {PARTS[size]} choose to stay at school.",
        )
        others = story.step(["@ students stay at school.", "Those who stay are @ students."], now, "/", size)
        now = story.step(["So @ students go.", "That leaves @ students who go."], now, "-", others)
        ask = "How many students go?"
    who = "students"
    if adults != "none":
        helpers = story.one([x for x in range(3, 20) if tickets != "vans" or sizes(now.whole + x, 5, 15)])
        story.say(f"{helpers} adults come along.", f"{helpers} teachers and parents go with them.")
        now = story.step(["In all @ people go.", "With the adults that is @ people."], now, "+", helpers)
        who = "people"
        ask = "How many people go in all?"
    if tickets == "vans":
        seats = story.one(sizes(now.whole, 5, 15) or sizes(now.whole, 2, 60))
        story.say(f"They ride in vans that hold {seats} people each.", f"Each van takes {seats} people.")
        story.step(["They need @ vans.", "So @ vans are needed."], now, "/", seats)
        ask = "How many vans do they fill?"
    elif tickets == "tickets":
        price = dollars(story.one(range(3, 25)))
        story.say(
            f"Everyone who goes needs a ticket for {price}.",
            f"Each {'person' if adults != 'none' else 'student'} who goes pays {price} to get in.",
        )
        now_cost = story.step(["The tickets cost $@.", f"Tickets for all the {who} cost $@."], now, "*", price)
        ask = "How many dollars do the tickets cost?"
        if bus != "none":
            fee = dollars(story.one(range(120, 600, 5)))
            story.say(f"The bus costs {fee}.", f"They also pay {fee} for the bus.")
            now_cost = story.step(["With the bus that is $@.", "Tickets and bus cost $@."], now_cost, "+", fee)
            ask = "How many dollars do the tickets and the bus cost?"
        if snacks != "none":
            snack = dollars(story.one(range(2, 9)))
            story.say(f"A lunch box for {snack} is bought for each of the {who} who go.")
            food = story.step(["The lunch boxes cost $@.", f"Lunch for all the {who} costs $@."], now, "*", snack)
            now_cost = story.step(["With lunch the outing costs $@.", "The whole cost is $@."], now_cost, "+", food)
            ask = "How many dollars does the outing cost?"
        if grant != "none":
            gift = dollars(story.one(range(25, now_cost.whole - 10, 5)))
            story.say(f"A parents' club pays {gift} of the cost.", f"The town gives {gift} toward the cost.")
            story.step(["The school has to pay $@.", "So $@ remains to be paid."], now_cost, "-", gift)
            ask = "How many dollars does the school still have to pay?"
    story.say(ask)
