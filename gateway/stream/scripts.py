"""What the registry does in Redis, each in one atomic step. Times are those of Redis's clock, in milliseconds.

An instance is there as long as its lease is (`instances`: name -> end of lease). All that it holds is in two hashes
of its own, which end with the lease:

    clients:INSTANCE    "NUMBER USER" -> "OPENED_MS ADDRESS PRODUCT"      one field a connection
    places:INSTANCE     "user USER" or "address ADDRESS" -> how many connections of it are open there

So nothing has to be cleaned up after an instance that was killed, and a connection costs nothing between its first
and its last moment. How many connections a user has is the sum over the instances with a lease.
"""

_LEASE = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local instances, clients, places = KEYS[1], KEYS[2], KEYS[3]
local function ends(instance) return tonumber(redis.call('ZSCORE', instances, instance) or 0) end
local function keep(lease)
  redis.call('PEXPIRE', clients, lease)
  redis.call('PEXPIRE', places, lease)
end
"""

JOIN = (
    _LEASE
    + """
local instance, lease, prefix, former = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
redis.call('ZREMRANGEBYSCORE', instances, '-inf', now)
if former ~= '' then
  redis.call('ZREM', instances, former)
  redis.call('UNLINK', prefix .. 'clients:' .. former, prefix .. 'places:' .. former)
end
if instance ~= '' then redis.call('ZADD', instances, now + lease, instance) end
return 1
"""
)
"""A lease for ``instance``, and none any more for its former self; either may be ''."""

RENEW = (
    _LEASE
    + """
local instance, lease = ARGV[1], ARGV[2]
if ends(instance) <= now then return 'lost' end
redis.call('ZADD', instances, now + lease, instance)
keep(lease)
return 1
"""
)
"""'lost': the lease has ended, and whatever was held with it is gone. So for all below."""

ENTER = (
    _LEASE
    + """
local instance, lease, all_places, field, former, opened = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
if ends(instance) <= now then return 'lost' end
keep(lease) -- first, since a replica that only reads must not answer
local names, most, taken = {}, {}, {}
for at = 7, #ARGV, 2 do
  if tonumber(ARGV[at + 1]) > 0 then
    names[#names + 1], most[#most + 1], taken[#taken + 1] = ARGV[at], tonumber(ARGV[at + 1]), 0
  end
end
if #names > 0 then
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', instances, '(' .. now, '+inf')) do
    for at, count in ipairs(redis.call('HMGET', all_places .. one, unpack(names))) do
      taken[at] = taken[at] + tonumber(count or 0)
    end
  end
end
for at, name in ipairs(names) do
  if taken[at] >= most[at] then return name end
end
if redis.call('HSETNX', clients, field, opened) == 1 then
  for at = 7, #ARGV, 2 do redis.call('HINCRBY', places, ARGV[at], 1) end
  if former ~= '' then redis.call('HDEL', clients, former) end
  keep(lease)
end
return ''
"""
)
"""A connection takes a place of each kind, (name, most; 0: any number) from the seventh argument on; '' when there was
room for all, else the first name without. ``former`` is the connection's field so far. Twice is as good as once."""

WRITE = (
    _LEASE
    + """
if ends(ARGV[1]) <= now then return 'lost' end
for at = 3, #ARGV, 4 do
  if redis.call('HSETNX', clients, ARGV[at], ARGV[at + 1]) == 1 then
    for place = at + 2, at + 3 do
      if ARGV[place] ~= '' then redis.call('HINCRBY', places, ARGV[place], 1) end
    end
  end
end
keep(ARGV[2])
return 1
"""
)
"""Many connections that are open, whatever the limits: field, value and two places ('' for none) of each."""

LEAVE = (
    _LEASE
    + """
if ends(ARGV[1]) <= now then return 'lost' end
if redis.call('HDEL', clients, ARGV[3]) == 1 then
  for place = 4, #ARGV do
    if redis.call('HINCRBY', places, ARGV[place], -1) <= 0 then redis.call('HDEL', places, ARGV[place]) end
  end
end
return 1
"""
)
"""A connection is closed: its field, and the places that it had."""

ALL = (JOIN, RENEW, ENTER, WRITE, LEAVE)
