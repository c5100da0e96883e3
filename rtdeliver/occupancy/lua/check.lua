-- Compares whether topics have viewers with what was last told. `common.lua` runs before this.
--
-- ARGV[3]     milliseconds within which the caller must publish a change
-- ARGV[4]     1 if topics may be found to have lost their viewers, otherwise 0
-- ARGV[5]     how many topics that are due to look at; 0 for those that follow
-- ARGV[6...]  topics
--
-- Returns {milliseconds until the next topic is due, or an empty string if there is none, then for
-- each change: {topic, 1 if occupied or 0 if vacated, when that changed}...}.

local claim, may_vacate, limit = tonumber(ARGV[3]), ARGV[4] == '1', tonumber(ARGV[5])
local topics, alive, answer = {}, {}, {''}
if limit > 0 then
  topics = redis.call('ZRANGEBYSCORE', due_key, '-inf', text(now), 'LIMIT', 0, limit)
else
  for i = 6, #ARGV do
    topics[#topics + 1] = ARGV[i]
  end
end

local function has_viewers(topic)
  for _, node in ipairs(redis.call('HKEYS', prefix .. 'row:' .. topic)) do
    if alive[node] == nil then
      alive[node] = redis.call('EXISTS', prefix .. 'node:' .. node) == 1
    end
    if alive[node] then
      return true
    end
  end
  return false
end

for _, topic in ipairs(topics) do
  local occupied, entry = has_viewers(topic), read(topic)
  local held = entry or {occupied = false, changed = 0, claimed = 0}
  local is_told = false
  local is_claimed = held.claimed > now
  -- While somebody publishes a change, the opposite one has to wait: else it might come first.
  if occupied ~= held.occupied and (occupied or may_vacate) and not is_claimed then
    held.occupied, held.changed, is_told = occupied, math.max(now, held.changed + 1), true
  elseif held.claimed > 0 and held.claimed <= now then
    is_told = true
  end
  if is_told then
    held.claimed = now + claim
    answer[#answer + 1] = {topic, held.occupied and 1 or 0, text(held.changed)}
  end
  if is_told or held.occupied then
    write(topic, held)
  elseif limit > 0 and held.claimed == 0 then
    forget(topic)
  end
end

local first = redis.call('ZRANGE', due_key, 0, 0, 'WITHSCORES')
if first[2] then
  answer[1] = text(tonumber(first[2]) - now)
end
return answer
