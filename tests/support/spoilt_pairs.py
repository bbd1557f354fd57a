"""Pairs of a right and a wrong solution, written by hand: sound ones, and each with damages that spoil it.

The last column of a damage is the auditor's name for it. Both readers of pairs, the check and the auditor, must object.
"""

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from hypothesis import strategies as st

from experiments.data import gsm8k

__all__ = [
    "DAMAGES",
    "FIELDS",
    "NUMBERS",
    "SAID",
    "SAME_ANSWER",
    "SHARES",
    "SOUND",
    "in_both",
    "moved_chains",
    "of_share",
    "pair",
    "unaltered",
]


def pair(kind: str, step: str, values: str, question: str, texts: str) -> dict[str, object]:
    """A record; `step` is "2/3", `values` is "old -> new", and a line "==" parts the two texts."""
    preferred, dispreferred = (text.strip() for text in texts.strip().split("\n==\n"))
    number, num_steps = map(int, step.split("/"))
    old, new = values.split(" -> ")
    gold, wrong = (text.rpartition("#### ")[2].replace(",", "") for text in (preferred, dispreferred))
    return {
        "id": "train-1", "question": question, "preferred": preferred, "dispreferred": dispreferred, "gold": gold,
        "wrong": wrong, "kind": kind, "step": number, "num_steps": num_steps, "old": old, "new": new,
    }  # fmt: skip


SOUND = {
    "slip, chain": pair("result-slip", "1/2", "84 -> 94",
        "A mill grinds 14 sacks an hour for 6 hours, then 9 more. How many sacks?", """
It grinds 14 * 6 = <<14*6=84>>84 sacks.
With the rest it is 84 + 9 = <<84+9=93>>93 sacks.
#### 93
==
It grinds 14 * 6 = <<14*6=94>>94 sacks.
With the rest it is 94 + 9 = <<94+9=103>>103 sacks.
#### 103
"""),
    "slip, money, commas and a restatement": pair("result-slip", "2/3", "2850 -> 2750",
        "A boat costs $1,900 and its motor $950. It is hired out for $57 a day. After how many days is it paid?", """
The hire brings 57*2 = $<<57*2=114>>114 in two days.
Boat and motor cost $1,900 + $950 = $<<1900+950=2850>>2,850.
At $57 a day the $2,850 come back after $2,850 / $57 = <<2850/57=50>>50 days.
#### 50
==
The hire brings 57*2 = $<<57*2=114>>114 in two days.
Boat and motor cost $1,900 + $950 = $<<1900+950=2750>>2,750.
At $57 a day the $2,750 come back after $2,750 / $55 = <<2750/55=50>>50 days.
#### 50
"""),
    "slip, result before the arithmetic": pair("result-slip", "1/2", "36 -> 46",
        "Nine crates hold 4 melons each, and 5 melons lie loose. How many melons?", """
There are 36 melons in crates because 9 x 4 = <<9*4=36>>36
There are 41 melons in all because 36 + 5 = <<36+5=41>>41
#### 41
==
There are 46 melons in crates because 9 x 4 = <<9*4=46>>46
There are 51 melons in all because 46 + 5 = <<46+5=51>>51
#### 51
"""),
    "slip, units in the arithmetic": pair("result-slip", "1/2", "135 -> 145",
        "A press prints 27 pages a minute for 5 minutes; 8 pages are spoilt. How many are good?", """
It prints 27 pages/minute * 5 minutes = <<27*5=135>>135 pages
So 135 pages - 8 spoilt pages = <<135-8=127>>127 pages are good
#### 127
==
It prints 27 pages/minute * 5 minutes = <<27*5=145>>145 pages
So 145 pages - 8 spoilt pages = <<145-8=137>>137 pages are good
#### 137
"""),
    "slip, plain equation": pair("result-slip", "1/2", "56 -> 54",
        "Eight benches seat 7 people each; 20 seats are taken. How many are free?", """
There are 8 x 7 = 56 seats.
So 56 – 20 = <<56-20=36>>36 seats are free.
#### 36
==
There are 8 x 7 = 54 seats.
So 54 – 20 = <<54-20=34>>34 seats are free.
#### 34
"""),
    "slip, step beside the chain stays": pair("result-slip", "2/3", "33 -> 43",
        "Ada has 26 stamps and buys 13. Ben has 11 sheets of 3 stamps. How many have they?", """
Ada has 26+13=<<26+13=39>>39 stamps.
Ben has 11*3=<<11*3=33>>33 stamps.
Together they have 39+33=<<39+33=72>>72 stamps.
#### 72
==
Ada has 26+13=<<26+13=39>>39 stamps.
Ben has 11*3=<<11*3=43>>43 stamps.
Together they have 39+43=<<39+43=82>>82 stamps.
#### 82
"""),
    "slip, equal to a number of the question": pair("result-slip", "1/2", "15 -> 17",
        "A pen costs $3. Eva buys 5 pens and a $15 book. What does she pay?", """
The pens cost 3*5=$<<3*5=15>>15
She pays 15+15=$<<15+15=30>>30
#### 30
==
The pens cost 3*5=$<<3*5=17>>17
She pays 17+15=$<<17+15=32>>32
#### 32
"""),
    "slip, two equal steps": pair("result-slip", "2/3", "24 -> 28",
        "Six trays hold 4 rolls each and three trays hold 8 buns each. How many pieces?", """
The rolls are 6*4=<<6*4=24>>24
The buns are 3*8=<<3*8=24>>24
That makes 24+24=<<24+24=48>>48 pieces.
#### 48
==
The rolls are 6*4=<<6*4=24>>24
The buns are 3*8=<<3*8=28>>28
That makes 24+28=<<24+28=52>>52 pieces.
#### 52
"""),
    "slip, ordinal and date": pair("result-slip", "2/2", "21 -> 22",
        "A show opens on May 7th and runs for two weeks. On which day of May does it close?", """
Two weeks are 7*2=<<7*2=14>>14 days.
It closes on the 7+14=<<7+14=21>>21st.
#### 21
==
Two weeks are 7*2=<<7*2=14>>14 days.
It closes on the 7+14=<<7+14=22>>22st.
#### 22
"""),
    "slip, chained arithmetic": pair("result-slip", "1/2", "18 -> 16",
        "Nine hens lay 2 eggs a day. How many eggs are that in 5 days, at 4 cents each in cents?", """
A day brings 9*2=<<9*2=18>>18 eggs.
So it is 18 * 5 * 4 = 90 * 4 = <<18*5*4=360>>360 cents.
#### 360
==
A day brings 9*2=<<9*2=16>>16 eggs.
So it is 16 * 5 * 4 = 80 * 4 = <<16*5*4=320>>320 cents.
#### 320
"""),
    "slip, a share and its percentage": pair("result-slip", "1/2", "0.4 -> 0.3",
        "Of 50 seeds 20 sprout. What percentage is that?", """
The share is 20/50 = <<20/50=0.4>>0.4
That is 100 * 0.4 = <<100*0.4=40>>40%
#### 40
==
The share is 20/50 = <<20/50=0.3>>0.3
That is 100 * 0.3 = <<100*0.3=30>>30%
#### 30
"""),
    "slip, two units restated": pair("result-slip", "1/2", "180 -> 240",
        "A film of 90 minutes is shown twice; cleaning takes another 2 hours. How many hours?", """
The films take 90 * 2 = <<90*2=180>>180 minutes, or 3 hours.
All in all it is 3 + 2 = <<3+2=5>>5 hours.
#### 5
==
The films take 90 * 2 = <<90*2=240>>240 minutes, or 4 hours.
All in all it is 4 + 2 = <<4+2=6>>6 hours.
#### 6
"""),
    "operator": pair("wrong-operator", "1/2", "40 -> 64",
        "Of 52 cards 12 are lost. The rest is dealt to 4 players. How many cards has each?", """
There are 52 - 12 = <<52-12=40>>40 cards left.
Each player has 40 / 4 = <<40/4=10>>10 cards.
#### 10
==
There are 52 + 12 = <<52+12=64>>64 cards left.
Each player has 64 / 4 = <<64/4=16>>16 cards.
#### 16
"""),
    "operator, letter x": pair("wrong-operator", "2/2", "60 -> 17",
        "Two shelves of 6 jars each hold 5 plums a jar. How many plums?", """
There are 2 x 6 = <<2*6=12>>12 jars.
They hold 12 jars x 5 plums = <<12*5=60>>60 plums.
#### 60
==
There are 2 x 6 = <<2*6=12>>12 jars.
They hold 12 jars + 5 plums = <<12+5=17>>17 plums.
#### 17
"""),
    "operator, in words": pair("wrong-operator", "1/2", "48 -> 14",
        "A game has 6 rounds of 8 points, and 9 extra points. How many points?", """
The rounds give 6 times 8 = <<6*8=48>>48 points.
In all there are 48+9 = <<48+9=57>>57 points.
#### 57
==
The rounds give 6 plus 8 = <<6+8=14>>14 points.
In all there are 14+9 = <<14+9=23>>23 points.
#### 23
"""),
    "operand": pair("wrong-operand", "2/3", "70 -> 45",
        "A farm has 14 cows, 9 goats and 5 pens. Each cow eats 5 bales and each goat 2. How many bales?", """
The goats eat 9*2=<<9*2=18>>18 bales.
The cows eat 14*5=<<14*5=70>>70 bales.
Together they eat 18+70=<<18+70=88>>88 bales.
#### 88
==
The goats eat 9*2=<<9*2=18>>18 bales.
The cows eat 9*5=<<9*5=45>>45 bales.
Together they eat 18+45=<<18+45=63>>63 bales.
#### 63
"""),
    "operand, percent": pair("wrong-operand", "1/2", "80 -> 20",
        "A coat of $400 is 20% off for all and 5% off for members. What do all pay?", """
The rebate is 20% * $400 = $<<20*.01*400=80>>80.
They pay $400 - $80 = $<<400-80=320>>320.
#### 320
==
The rebate is 5% * $400 = $<<5*.01*400=20>>20.
They pay $400 - $20 = $<<400-20=380>>380.
#### 380
"""),
    "operand, said in a number word elsewhere": pair("wrong-operand", "1/1", "42 -> 18",
        "Three boys own 14 kites each, and 6 are torn. How many kites have they?", """
The kites are 14 * 3 = <<14*3=42>>42.
#### 42
==
The kites are 6 * 3 = <<6*3=18>>18.
#### 18
"""),
    "quantity swapped for a price": pair("swapped-quantity", "1/2", "24 -> 12",
        "Tea costs $8 and jam costs $4. Uma buys 3 packets of tea and pays with $50. What is her change?", """
The tea costs 3 x $8 = $<<3*8=24>>24.
Her change is $50 - $24 = $<<50-24=26>>26.
#### 26
==
The tea costs 3 x $4 = $<<3*4=12>>12.
Her change is $50 - $12 = $<<50-12=38>>38.
#### 38
"""),
    "quantity swapped for an earlier step": pair("swapped-quantity", "3/3", "33 -> 38",
        "Liv ran 12 km on Monday, 7 km more on Tuesday and 2 km more than that on Wednesday. Monday and Wednesday?", """
Tuesday: 12+7=<<12+7=19>>19 km
Wednesday: 19+2=<<19+2=21>>21 km
Both: 21+12=<<21+12=33>>33 km
#### 33
==
Tuesday: 12+7=<<12+7=19>>19 km
Wednesday: 19+2=<<19+2=21>>21 km
Both: 19+19=<<19+19=38>>38 km
#### 38
"""),
    "dropped": pair("dropped-step", "1/2", "72 -> 18",
        "A roof has 4 rows of 18 tiles. 11 tiles are broken. How many are whole?", """
There are 4 * 18 = <<4*18=72>>72 tiles.
So 72 - 11 = <<72-11=61>>61 tiles are whole.
#### 61
==
So 18 - 11 = <<18-11=7>>7 tiles are whole.
#### 7
"""),
    "dropped in the middle": pair("dropped-step", "2/3", "105 -> 35",
        "Ivo saves $5 a week for 7 weeks, his sister three times as much. They buy a tent for $22. What is left?", """
Ivo saves 5*7=$<<5*7=35>>35.
His sister saves 35*3=$<<35*3=105>>105.
Of her $105 they keep 105-22=$<<105-22=83>>83.
#### 83
==
Ivo saves 5*7=$<<5*7=35>>35.
Of her $35 they keep 35-22=$<<35-22=13>>13.
#### 13
"""),
    "dropped last": pair("dropped-step", "2/2", "52 -> 26",
        "A hall has 13 rows of 2 lamps on each of 2 floors. How many lamps?", """
A floor has 13*2=<<13*2=26>>26 lamps.
The hall has 26*2=<<26*2=52>>52 lamps.
#### 52
==
A floor has 13*2=<<13*2=26>>26 lamps.
#### 26
"""),
    "slip, chained arithmetic without annotation": pair("result-slip", "1/2", "18 -> 16",
        "Nine hens lay 2 eggs a day. What do the eggs of 5 days bring at 4 cents each?", """
A day brings 9*2=<<9*2=18>>18 eggs.
So it is 18 * 5 * 4 = 90 * 4 = 360 cents.
#### 360
==
A day brings 9*2=<<9*2=16>>16 eggs.
So it is 16 * 5 * 4 = 80 * 4 = 320 cents.
#### 320
"""),
    "slip, an earlier step equals the answer": pair("result-slip", "1/3", "12 -> 14",
        "Of 9 red and 3 blue caps twice as many are ordered. The 12 at hand are taken off. How many come?", """
There are 9+3=<<9+3=12>>12 caps.
Ordered are 12*2=<<12*2=24>>24 caps.
So 24-12=<<24-12=12>>12 caps come.
#### 12
==
There are 9+3=<<9+3=14>>14 caps.
Ordered are 14*2=<<14*2=28>>28 caps.
So 28-12=<<28-12=16>>16 caps come.
#### 16
"""),
    "operand, its equal stays": pair("wrong-operand", "2/2", "16 -> 36",
        "A bed has 4 rows of 4 tulips. Another has 2 rows of 2 roses, and 9 roses lie beside it. How many tulips?", """
Of roses there are 2 * 2 = <<2*2=4>>4 planted.
The 4 rows of tulips hold 4*4=<<4*4=16>>16.
#### 16
==
Of roses there are 2 * 2 = <<2*2=4>>4 planted.
The 4 rows of tulips hold 4*9=<<4*9=36>>36.
#### 36
"""),
    "quantity swapped for one with cents": pair("swapped-quantity", "1/1", "12 -> 6",
        "Milk costs $3 and bread $1.50. What do 4 bottles of milk cost?", """
They cost 4 x $3 = $<<4*3=12>>12.
#### 12
==
They cost 4 x $1.50 = $<<4*1.50=6>>6.
#### 6
"""),
    "slip, the 1 of another unit": pair("result-slip", "1/2", "1 -> 3",
        "Of 6 cats 5 sleep. Each cat that is awake eats 30 grams per meal. How many grams?", """
Awake are 6-5=<<6-5=1>>1 cat.
At 1 meal it eats 1*30=<<1*30=30>>30 grams.
#### 30
==
Awake are 6-5=<<6-5=3>>3 cat.
At 1 meal it eats 3*30=<<3*30=90>>90 grams.
#### 90
"""),
    "forms, a bracket that multiplies": pair("result-slip", "2/3", "19 -> 23",
        "Rods: 7. Poles: 5 more than twice as many. How many are left without 6 of them?", """
Rods:21/3=<<21/3=7>>7
Poles: 5+2(7)=19 sticks
Left:19-6=<<19-6=13>>13
#### 13
==
Rods:21/3=<<21/3=7>>7
Poles: 5+2(7)=23 sticks
Left:23-6=<<23-6=17>>17
#### 17
"""),
    "forms, a share that multiplies": pair("wrong-operand", "1/2", "44 -> 20",
        "Of 88 bulbs half sprout, of 40 seeds too. A quarter of the bulbs that sprout are red. How many?", """
Sprouting: (1/2) 88 = 44
Red:44(.25)=11 bulbs
#### 11
==
Sprouting: (1/2) 40 = 20
Red:20(.25)=5 bulbs
#### 5
"""),
    "forms, brackets side by side": pair("wrong-operand", "1/2", "54 -> 108",
        "Each of 6 nets holds 9 pears, and 12 figs lie beside them. How many fruits?", """
There are (9)(6)=54 pears
With the figs there are 54+12=<<54+12=66>>66
#### 66
==
There are (9)(12)=108 pears
With the figs there are 108+12=<<108+12=120>>120
#### 120
"""),
    "forms, words for an equation": pair("wrong-operator", "1/3", "16 -> 8",
        "Ida has 4 trays of 4 tarts and sells them at $.5 each, then spends $3. What is left?", """
She has 16 tarts because 4 times 4 equals 16.
She earns $8 because 16 times .5 equals <<16*.5=8>>8.
She keeps $5 because 8 minus 3 equals 5
#### 5
==
She has 8 tarts because 4 plus 4 equals 8.
She earns $4 because 8 times .5 equals <<8*.5=4>>4.
She keeps $1 because 4 minus 3 equals 1
#### 1
"""),
    "forms, mixed numbers": pair("result-slip", "1/2", "28 -> 29",
        "A walk takes 1 1/2 hours, with rests of 12 and 16 minutes. How many minutes are walked?", """
The walk takes 1 1/2 * 60 = 90 minutes.
The rests take 12 + 16 = <<12+16=28>>28 minutes.
So 90 - 28 = <<90-28=62>>62 minutes are walked.
#### 62
==
The walk takes 1 1/2 * 60 = 90 minutes.
The rests take 12 + 16 = <<12+16=29>>29 minutes.
So 90 - 29 = <<90-29=61>>61 minutes are walked.
#### 61
"""),
    "forms, an equation in brackets": pair("wrong-operator", "1/2", "5 -> 3",
        "Of 60 marbles Kim gets one share and Lu 4 shares. How many are in a share?", """
A share is 60/(4+1=5) = <<60/5=12>>12 marbles
#### 12
==
A share is 60/(4-1=3) = <<60/3=20>>20 marbles
#### 20
"""),
    "forms, a leading plus": pair("result-slip", "1/2", "25 -> 27",
        "Ava works 12.5 hours, Bea twice as long, Cy 16.5 hours. How many hours?", """
Bea 2 * 12.5 = <<2*12.5=25>>25 hours
Total + 12.5 + 25 + 16.5 = <<+12.5+25+16.5=54>>54 hours
#### 54
==
Bea 2 * 12.5 = <<2*12.5=27>>27 hours
Total + 12.5 + 27 + 16.5 = <<+12.5+27+16.5=56>>56 hours
#### 56
"""),
    "forms, percentages": pair("swapped-quantity", "1/3", "50 -> 200",
        "20 of the fish, or 40%, are carp; 30% are perch. What share is left, and how many fish is that?", """
There are 20 fish / 40% = 50 fish
Left are 100% - 40% - 30% = 30%
That is 30% * 50 fish = <<30*.01*50=15>>15 fish
#### 15
==
There are 40 fish / 20% = 200 fish
Left are 100% - 40% - 30% = 30%
That is 30% * 200 fish = <<30*.01*200=60>>60 fish
#### 60
"""),
    "forms, a share as percentage": pair("result-slip", "1/2", "16 -> 20",
        "Of 40 tools 10 are saws and 6 files. What percentage are they?", """
They are 10 + 6 = <<10+6=16>>16 tools
So 16 tools / 40 tools * 100% = 40%
#### 40
==
They are 10 + 6 = <<10+6=20>>20 tools
So 20 tools / 40 tools * 100% = 50%
#### 50
"""),
    "forms, two equations on a line": pair("result-slip", "2/4", "123 -> 124",
        "Boris fishes 213 days: 2 a day for 90 days, then 4 a day. How many fish?", """
At first there are 2*90 = <<2*90=180>>180 fish.
In the other 213 - 90 = 123 days are 4*123 = <<4*123=492>>492 fish.      So there are 180 + 492 = <<180+492=672>>672.
#### 672
==
At first there are 2*90 = <<2*90=180>>180 fish.
In the other 213 - 90 = 124 days are 4*124 = <<4*124=496>>496 fish.      So there are 180 + 496 = <<180+496=676>>676.
#### 676
"""),
    "forms, units behind and between": pair("result-slip", "2/4", "120 -> 110",
        "A bed is 4 ft by 25 ft, a lawn 10 ft by 12 ft. What is left of the area without 9 square feet?", """
The bed has 4 ft * 25 ft = 100 sq.ft. The lawn has 10ft * 12ft = <<10*12=120>>120 sq.ft.
Both have 100 sq.ft. + 120 sq.ft. = 220 sq.ft. together.
Left are 220 sq.ft. - 9 sq.ft. = 211 sq.ft.
#### 211
==
The bed has 4 ft * 25 ft = 100 sq.ft. The lawn has 10ft * 12ft = <<10*12=110>>110 sq.ft.
Both have 100 sq.ft. + 110 sq.ft. = 210 sq.ft. together.
Left are 210 sq.ft. - 9 sq.ft. = 201 sq.ft.
#### 201
"""),
    "forms, arithmetic that goes on behind its units": pair("wrong-operand", "1/2", "15 -> 21",
        "Tim eats 6, Una 4 and Vic 5 slices of two pizzas with 12 slices each. What is left?", """
They eat 6 + 4 + 5 = <<6+4+5=15>>15 slices.
Left are 12 slices per pizza * 2 pizzas - 15 slices = 24 slices - 15 slices = <<12*2-15=9>>9 slices.
#### 9
==
They eat 12 + 4 + 5 = <<12+4+5=21>>21 slices.
Left are 12 slices per pizza * 2 pizzas - 21 slices = 24 slices - 21 slices = <<12*2-21=3>>3 slices.
#### 3
"""),
    "forms, a number word among the units": pair("result-slip", "1/2", "37 -> 38",
        "A calf gains 20 and 17 kg of the 49 kg it is to gain. How many are missing?", """
It gains 20 + 17 = <<20+17=37>>37 kg.
So 49 kg in all - 37 kg in the first four months = 12 kg.
#### 12
==
It gains 20 + 17 = <<20+17=38>>38 kg.
So 49 kg in all - 38 kg in the first four months = 11 kg.
#### 11
"""),
    "forms, an annotation of the result alone": pair("result-slip", "1/3", "16 -> 19",
        "Abe sees 14 stars, Bo 12 and Cy 4 more than Bo. How far is Cy above the average?", """
Cy sees 12+4=16 stars.
The average is (14+12+16)/3 = <<14=14>>14 stars.
Thus Cy sees 16-14=2 more.
#### 2
==
Cy sees 12+4=19 stars.
The average is (14+12+19)/3 = <<15=15>>15 stars.
Thus Cy sees 19-15=4 more.
#### 4
"""),
    "forms, a false equation of the right solution": pair("wrong-operator", "1/2", "96 -> 20",
        "Finn reads 8 pages on each of 12 days, two-thirds of his book. How long is it?", """
He reads 8*12 = <<8*12=96>>96 pages
This means: number of pages*(2/3) = 96
The book has 96*(3/2) = <<96*(3/2)=144>>144 pages
#### 144
==
He reads 8+12 = <<8+12=20>>20 pages
This means: number of pages*(2/3) = 20
The book has 20*(3/2) = <<20*(3/2)=30>>30 pages
#### 30
"""),
    "forms, an unknown": pair("result-slip", "1/2", "9 -> 10",
        "Gus has x plums, Hal twice as many, Jo 5 more than Hal. They have 50. How many has Jo?", """
Total:x+2x+2x+5=50
5x+5=50
5x=45
x=<<9=9>>9
Jo has 5+2(9)=23 plums
#### 23
==
Total:x+2x+2x+5=50
5x+5=50
5x=45
x=<<9=10>>10
Jo has 5+2(10)=25 plums
#### 25
"""),
    "forms, a dropped step with an unknown": pair("dropped-step", "1/2", "8 -> 4",
        "Kay has x beads, Lea 4 times twice as many. Kay has 10 beads. How many has Lea?", """
Lea has 4(2x)=8x beads.
Lea has 8(10)=<<8*10=80>>80 beads.
#### 80
==
Lea has 4(10)=<<4*10=40>>40 beads.
#### 40
"""),
    "forms, a large number for a word": pair("wrong-operator", "1/2", "3 -> 27",
        "Max and two friends share 9 slices evenly and have 2 kinds of it. How many slices each?", """
They ate three slices of each kind because 9 / 3 = <<9/3=3>>3
They ate 6 slices each because 3 x 2 = <<3*2=6>>6
#### 6
==
They ate 27 slices of each kind because 9 x 3 = <<9*3=27>>27
They ate 54 slices each because 27 x 2 = <<27*2=54>>54
#### 54
"""),
    "forms, arithmetic said twice": pair("result-slip", "1/2", "5 -> 4",
        "Nan throws 6 of the 11 that she needs. The next throw and one more is?", """
So X = 11 - 6, X = <<11-6=5>>5 points.
One more is 5 + 1 = <<5+1=6>>6 points.
#### 6
==
So X = 11 - 6, X = <<11-6=4>>4 points.
One more is 4 + 1 = <<4+1=5>>5 points.
#### 5
"""),
}  # fmt: skip
# The answer must differ: this one is there to be refused for that alone.
SAME_ANSWER = SOUND.pop("slip, money, commas and a restatement")
SAME_ANSWER = {**SAME_ANSWER, "question": f"{SAME_ANSWER['question']} It could be $55."}

DAMAGES: list[tuple[str, str, str, str]] = [
    # (sound pair, text of the wrong solution, what it becomes, finding)
    ("slip, chain", "94 + 9 = <<94+9=103>>103", "94 + 9 = <<94+9=104>>104", "arithmetic"),
    ("slip, chain", "94 + 9 = <<94+9=103>>103", "84 + 9 = <<84+9=93>>93", "propagation"),
    ("slip, chain", "94 + 9 = <<94+9=103>>103", "95 + 9 = <<95+9=104>>104", "propagation"),
    ("slip, chain", "94 + 9 = <<94+9=103>>103", "94 + 8 = <<94+8=102>>102", "unrelated-change"),
    ("slip, chain", "94 + 9 = <<94+9=103>>103", "94 - 9 = <<94-9=85>>85", "operator"),
    ("slip, chain", "<<14*6=94>>94", "<<14*6=84>>84", "slip"),
    ("slip, chain", "<<14*6=94>>94", "<<14*6=94>>84", "visible-result"),
    ("slip, chain", "94 + 9 = <<", "84 + 9 = <<", "visible-arithmetic"),
    ("slip, chain", "94 + 9 = <<", "94 - 9 = <<", "visible-arithmetic"),
    ("slip, chain", "14 * 6 = <<14*6", "15 * 6 = <<15*6", "altered-step"),
    ("slip, chain", "14 * 6 = <<14*6", "14 + 6 = <<14+6", "operator"),
    ("slip, chain", "sacks.\n#", "bags.\n#", "words"),
    ("slip, chain", "sacks.\n#", "sacks .\n#", "words"),
    ("slip, chain", "\nWith", " With", "line-count"),
    ("slip, chain", "\n#### 103", "\n#### 93", "same-answer"),
    ("slip, chain", "\n#### 103", "\n#### 104", "final-answer"),
    ("slip, chain", "\n#### 103", "\nAnswer: 103", "last-line"),
    ("slip, chain", "<<14*6=94>>94", "<<14*6=94000000000000000000000000>>94000000000000000000000000", "length"),
    ("slip, chain", "<<14*6=94>>94", "<<14*6=0>>0", "sign"),
    ("slip, chain", "<<14*6=94>>94", "<<14*6=-94>>-94", "sign"),
    ("slip, chain", "<<14*6=94>>94", "<<14*6=94.125>>94.125", "decimals"),
    ("slip, chain", "<<14*6=94>>94", "<<14*6=94.5>>94.5", "fraction"),
    ("slip, chain", "14 * 6 = <<", "14.0 * 6 = <<", "number-format"),
    ("slip, result before the arithmetic", "There are 46", "There are 36", "left-over-value"),
    ("slip, result before the arithmetic", "There are 46", "There are 47", "new-number"),
    ("slip, units in the arithmetic", "So 145 pages", "So 135 pages", "visible-arithmetic"),
    ("slip, plain equation", "= 54 seats", "= 56 seats", "slip"),
    ("slip, plain equation", "54 – 20 = <<54-20=34>>34", "56 – 20 = <<56-20=36>>36", "propagation"),
    ("slip, step beside the chain stays", "39+43=<<39+43=82>>82", "43+43=<<43+43=86>>86", "unrelated-change"),
    ("slip, step beside the chain stays", "26+13=<<26+13=39>>39", "26+13=<<26+13=38>>38", "arithmetic"),
    ("slip, ordinal and date", ">>22st", ">>21st", "visible-result"),
    ("slip, chained arithmetic", "= 80 * 4 =", "= 90 * 4 =", "visible-arithmetic"),
    ("slip, a share and its percentage", ">>30%", ">>40%", "visible-result"),
    ("slip, two units restated", "or 4 hours", "or 3 hours", "unit-restatement"),
    ("operator", "52 + 12 = <<52+12=64>>64", "52 - 12 = <<52-12=64>>64", "operator"),
    ("operator", "52 + 12 = <<", "52 - 12 = <<", "visible-arithmetic"),
    ("operator, in words", "6 plus 8", "6 times 8", "visible-arithmetic"),
    ("operand", "9*5=<<9*5=45>>45", "13*5=<<13*5=65>>65", "new-number"),
    ("operand", "9*5=<<9*5=45>>45", "14*5=<<14*5=45>>45", "altered-step"),
    ("operand", "9*5=<<9*5=45>>45", "14*5=<<9*5=45>>45", "visible-arithmetic"),
    ("operand", "9*5=<<9*5=45>>45", "9+5=<<9+5=14>>14", "operator"),
    ("operand, its equal stays", "2 * 2 = <<", "2 + 2 = <<", "visible-arithmetic"),
    ("slip, an earlier step equals the answer", "\n#### 16", "\n#### 14", "final-answer"),
    ("operand, percent", "5% * $400 = $<<5*.01*400=20>>20", "20% * $400 = $<<5*.01*400=20>>20", "visible-arithmetic"),
    ("dropped", "18 - 11 = <<18-11=7>>7", "13 - 11 = <<13-11=2>>2", "propagation"),
    ("dropped in the middle", "Of her $35", "Of her $105", "left-over-value"),
    ("dropped in the middle", "5*7=$<<5*7=35>>35", "5*7=$<<5*7=30>>30", "arithmetic"),
    ("dropped last", "\n#### 26", "\n#### 13", "final-answer"),
    ("forms, a bracket that multiplies", "5+2(7)=23", "5+3(7)=23", "altered-step"),
    ("forms, a bracket that multiplies", "5+2(7)=23", "5+2(7)=19", "slip"),
    ("forms, a bracket that multiplies", "23-6=<<23-6=17>>17", "19-6=<<19-6=13>>13", "propagation"),
    ("forms, a share that multiplies", "(1/2) 40 = 20", "(1/2) 40 = 21", "arithmetic"),
    ("forms, a share that multiplies", "(1/2) 40 = 20", "(1/3) 40 = 20", "arithmetic"),
    ("forms, a share that multiplies", "20(.25)=5", "20(.35)=7", "unrelated-change"),
    ("forms, brackets side by side", "(9)(12)=108", "(9)(12)=109", "arithmetic"),
    ("forms, brackets side by side", "(9)(12)=108", "(9)(13)=117", "new-number"),
    ("forms, words for an equation", "4 plus 4 equals 8", "4 minus 4 equals 8", "arithmetic"),
    ("forms, words for an equation", "8 tarts because", "16 tarts because", "left-over-value"),
    ("forms, words for an equation", "4 minus 3 equals 1", "4 plus 3 equals 1", "arithmetic"),
    ("forms, words for an equation", "4 minus 3 equals 1", "8 minus 3 equals 5", "propagation"),
    ("forms, mixed numbers", "1 1/2 * 60 = 90", "2 1/2 * 60 = 90", "arithmetic"),
    ("forms, mixed numbers", "1 1/2 * 60 = 90", "1 1/2 * 61 = 90", "arithmetic"),
    ("forms, an equation in brackets", "(4-1=3)", "(4+1=3)", "arithmetic"),
    ("forms, an equation in brackets", "60/3=20>>20", "60/5=12>>12", "propagation"),
    ("forms, a leading plus", "Total + 12.5 + 27", "Total + 12.5 + 25", "visible-arithmetic"),
    ("forms, a leading plus", "<<+12.5+27+16.5=56>>56", "<<+12.5+27+16.5=57>>57", "arithmetic"),
    ("forms, percentages", "40 fish / 20% = 200", "40 fish / 20% = 201", "arithmetic"),
    ("forms, percentages", "- 40% - 30%", "- 20% - 30%", "arithmetic"),
    ("forms, a share as percentage", "* 100% = 50%\n#### 50", "* 100% = 40%\n#### 50", "arithmetic"),
    ("forms, a share as percentage", "/ 40 tools * 100% = 50%", "/ 50 tools * 100% = 50%", "arithmetic"),
    ("forms, two equations on a line", "213 - 90 = 124", "213 - 90 = 123", "slip"),
    ("forms, two equations on a line", "213 - 90 = 124", "213 + 90 = 124", "operator"),
    ("forms, two equations on a line", "<<180+496=676>>676", "<<180+496=677>>677", "arithmetic"),
    ("forms, units behind and between", "4 ft * 25 ft = 100", "4 ft * 26 ft = 100", "arithmetic"),
    ("forms, units behind and between", "100 sq.ft. + 110 sq.ft.", "100 sq.ft. + 120 sq.ft.", "propagation"),
    ("forms, arithmetic that goes on behind its units", "24 slices - 21", "25 slices - 21", "visible-arithmetic"),
    ("forms, arithmetic that goes on behind its units", "* 2 pizzas - 21", "* 3 pizzas - 21", "arithmetic"),
    ("forms, a number word among the units", "in all - 38 kg", "in all - 37 kg", "propagation"),
    ("forms, a number word among the units", "= 11 kg.", "= 12 kg.", "arithmetic"),
    ("forms, an annotation of the result alone", "(14+12+19)/3", "(14+13+19)/3", "visible-arithmetic"),
    ("forms, an annotation of the result alone", "(14+12+19)/3", "(13+13+19)/3", "unrelated-change"),
    ("forms, an annotation of the result alone", "(14+12+19)/3", "(14+12+16)/3", "propagation"),
    ("forms, a false equation of the right solution", "pages*(2/3) = 20", "pages*(2/3) = 96", "left-over-value"),
    ("forms, a false equation of the right solution", "pages*(2/3) = 20", "pages*(2/3) = 21", "arithmetic"),
    ("forms, an unknown", "5x+5=50", "6x+5=50", "arithmetic"),
    ("forms, an unknown", "5+2(10)=25", "5+2(9)=23", "propagation"),
    ("forms, an unknown", "5+2(10)=25", "5+2(10)=26", "arithmetic"),
    ("forms, a dropped step with an unknown", "4(10)=<<4*10=40>>40", "2(10)=<<2*10=20>>20", "propagation"),
    ("forms, a large number for a word", "They ate 27 slices", "They ate 6 slices", "words"),
    ("forms, a large number for a word", "They ate 27 slices", "They ate 26 slices", "left-over-value"),
    ("forms, arithmetic said twice", "X = 11 - 6,", "X = 11 - 5,", "visible-arithmetic"),
    ("slip, the 1 of another unit", "3*30=<<3*30=90>>90", "1*30=<<1*30=30>>30", "propagation"),
]  # fmt: skip

FIELDS: list[tuple[str, dict[str, object], str]] = [
    ("slip, chain", {"question": None}, "record"),
    ("slip, chain", {"step": "1"}, "record"),
    ("slip, chain", {"step": True}, "record"),
    ("slip, chain", {"step": 3}, "record"),
    ("slip, chain", {"step": 0}, "record"),
    ("slip, chain", {"kind": "typo"}, "record"),
    ("slip, chain", {"new": "many"}, "record"),
    ("slip, chain", {"gold": "92"}, "last-line"),
    ("slip, chain", {"wrong": "104"}, "last-line"),
    ("slip, chain", {"num_steps": 3}, "step-count"),
    ("slip, chain", {"step": 2}, "slip"),
    ("slip, chain", {"old": "83"}, "step-value"),
    ("slip, chain", {"new": "95"}, "step-value"),
    ("slip, chain", {"kind": "wrong-operator"}, "operator"),
    ("slip, chain", {"kind": "wrong-operand"}, "altered-step"),
    ("slip, chain", {"kind": "dropped-step"}, "line-count"),
    ("operator", {"kind": "result-slip"}, "operator"),
    ("operand", {"kind": "result-slip"}, "altered-step"),
    ("operand", {"step": 1}, "altered-step"),
    ("dropped", {"new": "17"}, "stand-in"),
    ("dropped", {"step": 2}, "words"),
    ("dropped", {"kind": "result-slip"}, "line-count"),
]


SAID = [("The fourteen cows", True), ("The 14 cows", True), ("The cows", False), ("The five cows", False)]
"""Words for "The cows" of SOUND["operand"], and whether they contradict its wrong solution, where 14 became 5."""

SHARES = [("1/4 of them", False), ("a few", False), ("one of them", True)]
"""Words of a question about trout, and whether they name the number one."""


def of_share(share: str) -> dict[str, object]:
    """A pair whose wrong operand is 1, which the question may or may not name."""
    return pair("wrong-operand", "1/1", "8 -> 32", f"Of 32 trout 4 are sold, and {share} are small.", """
They are 32/4=<<32/4=8>>8
#### 8
==
They are 32/1=<<32/1=32>>32
#### 32
""")  # fmt: skip


NUMBERS = (
    "5", "-5", "−5", "$1,234", "1,234,567.25", "5.00", ".5", "-.5", "1/2", "-$3", " 7 ", "3/0", "3/00", "1,23",
    "1234,567", "", "$", "-", ".", "5.", "1/", "/2", "--5", "5 apples", "٣", "²", "1e3", "0x1", "1_000", "7" * 101,
)  # fmt: skip
"""Texts, many of which are no numbers: every reader must make the same of them."""


def unaltered(folder: str) -> Iterator[dict[str, object]]:
    """Pairs of a real solution with itself: every fifth of GSM8K whose equations are all annotated."""
    for problem in islice(gsm8k.from_folder(Path(folder), "train"), 0, None, 5):
        annotated = re.findall(r"=([^=<>]*)>>", problem.solution)
        plain = [part for part in problem.solution.split("\n")[:-1] if "<<" not in part and "=" in part]
        if annotated and not plain:
            yield {
                "id": problem.id, "question": problem.question, "preferred": problem.solution,
                "dispreferred": problem.solution, "gold": problem.gold, "wrong": problem.gold, "kind": "result-slip",
                "step": 1, "num_steps": len(annotated), "old": annotated[0], "new": annotated[0],
            }  # fmt: skip


def in_both(record: dict[str, object], old: str, new: str, new_wrong: str | None = None) -> dict[str, object]:
    """The record with the same words replaced in both texts, or other ones in the wrong text."""
    texts = str(record["preferred"]), str(record["dispreferred"])
    assert all(old in text for text in texts)
    return {
        **record,
        "preferred": texts[0].replace(old, new),
        "dispreferred": texts[1].replace(old, new if new_wrong is None else new_wrong),
    }


_PLACES = range(100, 1000)


@st.composite
def _chains(draw: st.DrawFn) -> tuple[dict[str, object], int]:
    """A chain of sums and differences whose numbers are all unlike, with one slipped result, and the slipped step."""
    num_steps = draw(st.integers(1, 5))
    slipped = draw(st.integers(1, num_steps))
    slip = draw(st.integers(1, 9))
    terms = draw(st.lists(st.sampled_from(_PLACES), min_size=num_steps + 1, max_size=num_steps + 1, unique=True))
    lines: tuple[list[str], list[str]] = ([], [])
    totals = [terms[0] + 10_000] * 2
    question = f"There are {totals[0]}, then {' and '.join(map(str, terms[1:]))} more or fewer."
    values: list[tuple[int, int]] = []
    for number, term in enumerate(terms[1:], start=1):
        sign = draw(st.sampled_from("+-"))
        before = list(totals)
        totals = [total + term if sign == "+" else total - term for total in totals]
        totals[1] += slip * (number == slipped)
        values.append((totals[0], totals[1]))
        for side in (0, 1):
            start, result = before[side], totals[side]
            lines[side].append(f"From {start}: {start} {sign} {term} = <<{start}{sign}{term}={result}>>{result} coins.")
    texts = "\n==\n".join("\n".join([*side, f"#### {total}"]) for side, total in zip(lines, totals, strict=True))
    old, new = values[slipped - 1]
    return pair("result-slip", f"{slipped}/{num_steps}", f"{old} -> {new}", question, texts), slip


@st.composite
def moved_chains(draw: st.DrawFn) -> tuple[dict[str, object], dict[str, object], bool]:
    """A sound chain, the same with one number of the wrong solution moved, and whether all its values differ.

    Where two steps, or a step and a number of the question, are equal, the moved number may be that of another.
    """
    record, slip = draw(_chains())
    text = str(record["dispreferred"])
    number = draw(st.sampled_from(list(re.finditer(r"\d+", text))))
    moved = int(number.group()) + draw(st.sampled_from([-slip, 1, 17]))
    values = [*re.findall(r"=(\d+)>>", str(record["preferred"])), *re.findall(r"\d+", str(record["question"]))]
    damaged = {**record, "dispreferred": text[: number.start()] + str(moved) + text[number.end() :]}
    return record, damaged, len(set(values)) == len(values)
